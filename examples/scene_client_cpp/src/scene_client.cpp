// Ask the flash_vstream node a question: ros2 run scene_client_cpp scene_client "Where is the red ball?"

#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include "flash_vstream_ros/srv/ask_scene.hpp"
#include "rclcpp/rclcpp.hpp"

using flash_vstream_ros::srv::AskScene;
using namespace std::chrono_literals;

int main(int argc, char ** argv)
{
  const auto arguments = rclcpp::init_and_remove_ros_arguments(argc, argv);
  auto node = rclcpp::Node::make_shared("scene_client");
  auto client = node->create_client<AskScene>("ask_scene");
  if (!client->wait_for_service(60s)) {
    std::cerr << "no node offers ask_scene; is flash_vstream running on the same ROS_DOMAIN_ID?\n";
    rclcpp::shutdown();
    return 1;
  }

  auto request = std::make_shared<AskScene::Request>();
  request->question = arguments.size() > 1 ? arguments[1] : "What do you see?";
  auto future = client->async_send_request(request);
  if (rclcpp::spin_until_future_complete(node, future, 60s) != rclcpp::FutureReturnCode::SUCCESS) {
    std::cerr << "no reply within 60 s\n";
    rclcpp::shutdown();
    return 1;
  }

  const auto reply = future.get();
  rclcpp::shutdown();
  if (reply->error_code != AskScene::Response::NONE) {
    std::cerr << "error " << reply->error_code << ": " << reply->error_msg << "\n";
    return 1;
  }
  std::cout << reply->answer << "\n";
  std::cout << "  confidence " << reply->confidence << (reply->calibrated ? "" : ", uncalibrated") << "\n";
  for (const auto & entry : reply->evidence) {
    std::cout << "  seen by " << entry.camera << ", " << entry.since.sec << " s to " << entry.until.sec
              << " s, relevance " << entry.relevance << "\n";
  }
  return 0;
}
