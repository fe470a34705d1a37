"""A node: creates and destroys publishers, subscriptions, services, clients and timers, as in rclpy.node."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

from cyclonedds.core import DDSStatus

from . import names
from .callback_groups import CallbackGroup, MutuallyExclusiveCallbackGroup
from .client import Client
from .clock import Clock, ROSClock, TimeSource
from .context import Context, get_default_context
from .dds import Reader, Writer
from .exceptions import InvalidHandle
from .logging import RcutilsLogger, get_logger
from .node_graph import NodeGraph
from .node_parameters import NodeParameters
from .parameter import Parameter
from .parameter_services import ParameterServices, parameter_event
from .publisher import Publisher
from .qos import SERVICE_READER, SERVICE_WRITER, QoSProfile, as_profile, to_dds
from .receiver import Receiver
from .rosout import Rosout
from .service import Service
from .subscription import Subscription, SubscriptionEventCallbacks
from .time import SECOND_NS
from .timer import Timer
from .types import idl_type, message_class, type_hash
from .waitable import GuardCondition, Waitable


class Node(NodeParameters, NodeGraph):
    """rclpy's Node, as far as this package uses it."""

    def __init__(
        self,
        node_name: str,
        *,
        context: Context | None = None,
        namespace: str | None = None,
        start_parameter_services: bool = True,
        parameter_overrides: Sequence[Parameter] | None = None,
    ) -> None:
        """Raises NotInitializedException before init(), and NameValidationException for an invalid name."""
        self.context = context or get_default_context()
        arguments = self.context.arguments
        self._remap = arguments.remap
        self._name = names.validate_node_name(arguments.node_name(node_name))
        self._original_name = node_name
        self._namespace = names.validate_namespace(arguments.node_namespace(node_name, namespace or "/"))
        self._full_name = names.full_node_name(self._name, self._namespace)
        self._logger = get_logger(self._full_name.strip("/").replace("/", "."))
        self.executor: Any = None
        self.waitables: tuple[Waitable, ...] = ()
        self._publishers: list[Publisher] = []
        self._default_callback_group = MutuallyExclusiveCallbackGroup()
        self.ros_clock = ROSClock()
        values = arguments.parameter_overrides(self._full_name)
        overrides = {name: Parameter(name, None, value) for name, value in values.items()}
        NodeParameters.__init__(
            self, overrides | {parameter.name: parameter for parameter in parameter_overrides or ()}
        )
        self._entities = self.context.graph.add_node(self._name, self._namespace)
        self._destroyed = False
        self._rosout = Rosout(self)
        event = message_class("rcl_interfaces/msg/ParameterEvent")
        self._parameter_events = self.create_publisher(event, "/parameter_events", 1000)
        TimeSource(self)
        if start_parameter_services:
            ParameterServices(self)

    def on_parameter_change(self, new: list[Parameter], changed: list[Parameter]) -> None:
        with contextlib.suppress(InvalidHandle):  # the process is shutting down
            self._parameter_events.publish(parameter_event(self, new, changed))

    def get_name(self) -> str:
        return self._name

    def get_namespace(self) -> str:
        return self._namespace

    def get_fully_qualified_name(self) -> str:
        return self._full_name

    def get_logger(self) -> RcutilsLogger:
        return self._logger

    def get_clock(self) -> Clock:
        return self.ros_clock

    @property
    def publishers(self) -> list[Publisher]:
        return list(self._publishers)

    @property
    def subscriptions(self) -> list[Subscription]:
        return [waitable for waitable in self.waitables if isinstance(waitable, Subscription)]

    @property
    def services(self) -> list[Service]:
        return [waitable for waitable in self.waitables if isinstance(waitable, Service)]

    @property
    def timers(self) -> list[Timer]:
        return [waitable for waitable in self.waitables if isinstance(waitable, Timer)]

    def resolve_topic_name(self, topic: str) -> str:
        return self._resolve(topic, service=False)

    def resolve_service_name(self, service: str) -> str:
        return self._resolve(service, service=True)

    def _resolve(self, name: str, *, service: bool) -> str:
        full = names.expand(name, self._name, self._namespace, service=service)
        return self._remap(full, self._name, self._namespace, self._original_name, service=service)

    def create_publisher(self, msg_type: Any, topic: str, qos_profile: QoSProfile | int) -> Publisher:
        qos = as_profile(qos_profile)
        publisher = Publisher(self, msg_type, self.resolve_topic_name(topic), qos)
        publisher.writer = self._writer(names.topic_to_dds(publisher.topic_name), publisher.topic_name, msg_type, qos)
        self._publishers.append(publisher)
        self.context.graph.change_entities(self._entities, add=[publisher.writer])
        return publisher

    def create_subscription(
        self,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        qos_profile: QoSProfile | int,
        *,
        callback_group: CallbackGroup | None = None,
        event_callbacks: SubscriptionEventCallbacks | None = None,
    ) -> Subscription:
        qos, name = as_profile(qos_profile), self.resolve_topic_name(topic)
        group = self._group(callback_group)
        subscription = Subscription(self, msg_type, name, callback, group, qos, event_callbacks)
        lost = subscription.lost_messages
        statuses = DDSStatus.SampleLost if lost else 0
        subscription.reader = self._reader(
            subscription, names.topic_to_dds(name), msg_type, qos, more_statuses=statuses
        )
        self._add(subscription, subscription.reader)
        if lost:
            lost.reader = subscription.reader.entity
            self._add(lost)
        return subscription

    def create_service(
        self,
        srv_type: Any,
        srv_name: str,
        callback: Callable[[Any, Any], Any],
        *,
        qos_profile: QoSProfile | None = None,
        callback_group: CallbackGroup | None = None,
    ) -> Service:
        """Create a service. `qos_profile` has no effect here: every service has SERVICE_READER and SERVICE_WRITER."""
        name = self.resolve_service_name(srv_name)
        service = Service(self, srv_type, name, callback, self._group(callback_group))
        identity = f"serviceid={_identity()};"
        service.writer = self._writer(names.reply_to_dds(name), name, srv_type.Response, SERVICE_WRITER, identity)

        request, lost = names.request_to_dds(name), DDSStatus.SampleLost
        service.reader = self._reader(service, request, srv_type.Request, SERVICE_READER, identity, lost)
        self._add(service, service.reader, service.writer)
        return service

    def create_client(
        self,
        srv_type: Any,
        srv_name: str,
        *,
        qos_profile: QoSProfile | None = None,
        callback_group: CallbackGroup | None = None,
    ) -> Client:
        """Create a client. `qos_profile` has no effect here: every client has SERVICE_READER and SERVICE_WRITER."""
        name = self.resolve_service_name(srv_name)
        client = Client(self, srv_type, name, self._group(callback_group))
        identity = f"clientid={_identity()};"
        client.writer = self._writer(names.request_to_dds(name), name, srv_type.Request, SERVICE_WRITER, identity)

        reply = names.reply_to_dds(name)
        client.reader = self._reader(client, reply, srv_type.Response, SERVICE_READER, identity)
        self._add(client, client.reader, client.writer)
        return client

    def create_timer(
        self,
        timer_period_sec: float,
        callback: Callable[[], None],
        callback_group: CallbackGroup | None = None,
        clock: Clock | None = None,
    ) -> Timer:
        period = int(float(timer_period_sec) * SECOND_NS)
        group = self._group(callback_group)
        timer = Timer(self, callback, group, period, clock or self.ros_clock)
        self._add(timer)
        return timer

    def create_guard_condition(
        self, callback: Callable[[], None], callback_group: CallbackGroup | None = None
    ) -> GuardCondition:
        guard = GuardCondition(self.context.notifier, callback, self._group(callback_group))
        self._add(guard)
        return guard

    def destroy_publisher(self, publisher: Publisher) -> bool:
        if publisher not in self._publishers:
            return False
        self._publishers.remove(publisher)
        self._close(publisher.writer)
        return True

    def destroy_subscription(self, subscription: Subscription) -> bool:
        if subscription.lost_messages:
            self._remove(subscription.lost_messages)
        return self._remove(subscription)

    def destroy_timer(self, timer: Timer) -> bool:
        timer.cancel()
        return self._remove(timer)

    def destroy_node(self) -> None:
        """Remove the node from the network; a second call does nothing."""
        if self._destroyed:
            return
        self._destroyed = True
        if self.executor is not None:
            self.executor.remove_node(self)
        self._rosout.close()
        for publisher in self.publishers:
            self.destroy_publisher(publisher)
        for waitable in self.waitables:
            self._remove(waitable)
        if not self.context.closed:
            self.context.graph.remove_node(self._entities)

    def _group(self, group: CallbackGroup | None) -> CallbackGroup:
        return group if group is not None else self._default_callback_group

    def _add(self, waitable: Waitable, *endpoints: Reader | Writer) -> None:
        self.waitables += (waitable,)  # a new tuple, since executors read it without a lock
        if endpoints:
            self.context.graph.change_entities(self._entities, add=endpoints)
        self.context.notifier.notify()

    def _remove(self, waitable: Waitable) -> bool:
        if not any(other is waitable for other in self.waitables):
            return False
        self.waitables = tuple(other for other in self.waitables if other is not waitable)
        if isinstance(waitable, Receiver):
            self._close(*(vars(waitable)[name] for name in ("reader", "writer") if name in vars(waitable)))
        return True

    def _close(self, *endpoints: Reader | Writer) -> None:
        if self.context.closed:
            return
        self.context.graph.change_entities(self._entities, remove=endpoints)
        for endpoint in endpoints:
            endpoint.close()
            self.context.qos_watch.forget(endpoint.gid)

    def _topic(self, dds_name: str, msg_type: Any, qos: QoSProfile, identity: str) -> tuple[Any, Any]:
        """A topic, and the DDS policies of its reader or writer. They announce `identity` and the type hash."""
        is_service = not dds_name.startswith("rt/")
        topic = self.context.participant.topic(dds_name, idl_type(msg_type.TYPE_NAME, is_service))
        return topic, to_dds(qos, f"{identity}typehash={type_hash(msg_type.TYPE_NAME)};")

    def watch_qos(self, endpoint: Reader | Writer, topic: str, qos: QoSProfile) -> None:
        """Report the peer whose QoS is incompatible with that of `endpoint`, once the peer's node is known."""
        self.context.qos_watch.suspect(endpoint.gid, topic, qos, isinstance(endpoint, Writer), self._logger)

    def _writer(self, dds_name: str, name: str, msg_type: Any, qos: QoSProfile, identity: str = "") -> Writer:
        def on_incompatible_qos(writer: Writer, status: int) -> None:
            self.watch_qos(writer, name, qos)

        return Writer(self.context.participant, *self._topic(dds_name, msg_type, qos, identity), on_incompatible_qos)

    def _reader(
        self,
        receiver: Receiver,
        dds_name: str,
        msg_type: Any,
        qos: QoSProfile,
        identity: str = "",
        more_statuses: int = 0,
    ) -> Reader:
        topic, dds_qos = self._topic(dds_name, msg_type, qos, identity)
        return Reader(self.context.participant, topic, dds_qos, receiver.on_status, more_statuses)


def _identity() -> str:
    """An id for the two topics of one service or client, in the format of rmw_cyclonedds."""
    return ".".join(f"{byte:x}" for byte in uuid.uuid4().bytes)
