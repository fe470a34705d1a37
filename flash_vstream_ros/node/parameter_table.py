"""The node's parameters, one row each: the source of declarations, settings, config/vstream.yaml and documentation.

After a change here run scripts/generate_reference.py.
"""

from __future__ import annotations

from flash_vstream_ros.engine.ingest.stamps import JumpBack
from flash_vstream_ros.engine.memory_policies import POLICIES
from flash_vstream_ros.memory.config import GROUPINGS, RETENTIONS
from flash_vstream_ros.models.load import ATTENTION, DTYPES
from flash_vstream_ros.models.names import PUBLISHED_MODEL
from flash_vstream_ros.models.options import POSITIONS, QUANTIZATIONS
from flash_vstream_ros.models.preprocess import MAX_PIXELS, PROCESSOR_MAX_PIXELS
from flash_vstream_ros.models.prompt import INSTRUCTION
from flash_vstream_ros.ros.cv_bridge_decoder import DECODERS
from flash_vstream_ros.ros.image_transport import COLOUR_ORDERS
from flash_vstream_ros.ros.images import MAX_PIXELS as MAX_IMAGE_PIXELS

from .answer_parameters import ANSWER_PARAMETERS
from .parameter_spec import ParameterSpec
from .pose_parameters import POSE_PARAMETERS
from .watch_parameters import WATCH_PARAMETERS

PARAMETERS = (
    ParameterSpec(
        "autostart",
        True,
        "Configure and activate the node at start; false: wait for a lifecycle manager or `ros2 lifecycle set`",
        initial=True,
    ),
    ParameterSpec(
        "model.name",
        PUBLISHED_MODEL,
        "Hub id or folder of a model, or of a LoRA adapter. Two models need no download: household, trained on the "
        "demo's simulator only (see config/household.yaml), and tiny-random, untrained",
    ),
    ParameterSpec(
        "model.device", "auto", "Torch device, such as cuda:0 or cpu; auto: CUDA if there is a GPU, else the CPU"
    ),
    ParameterSpec(
        "model.vision_device",
        "auto",
        "Torch device of the vision tower and the memory; auto: the one of model.device",
    ),
    ParameterSpec(
        "model.quantization",
        QUANTIZATIONS[0],
        "Quantization of the language model's weights; 8bit and 4bit need bitsandbytes and accelerate",
        choices=QUANTIZATIONS,
    ),
    ParameterSpec(
        "model.positions",
        POSITIONS[0],
        "Position encoding of memory tokens. am_rope: as published, for models trained from Qwen2-VL with Flash "
        "Memory; video: as the base model encodes videos; auto: am_rope for Qwen2-VL, video for other families",
        choices=POSITIONS,
    ),
    ParameterSpec(
        "model.dtype",
        "auto",
        "Data type of weights and activations; auto: bfloat16 on CUDA, float32 on a CPU",
        choices=("auto", *DTYPES),
    ),
    ParameterSpec(
        "model.attention",
        "auto",
        "Attention kernel; auto: flash-attn if it is installed, else PyTorch's SDPA",
        choices=ATTENTION,
    ),
    ParameterSpec(
        "model.max_pixels",
        MAX_PIXELS,
        "Largest image area that the model gets. Fewer pixels: fewer tokens, less detail, faster [pixels]",
        (3136, PROCESSOR_MAX_PIXELS),
    ),
    ParameterSpec(
        "model.age_text",
        "",
        "Text before each memory entry, where {minutes} is the time since it was last seen, such as "
        '"<{minutes} minutes ago>"; empty: none, as published',
    ),
    ParameterSpec(
        "model.threads",
        0,
        "PyTorch threads on a CPU. Fewer leave cores to other nodes; a very small model is fastest with one; 0: one "
        "per core, or OMP_NUM_THREADS",
        (0, 1024),
        field="torch_threads",
    ),
    ParameterSpec(
        "model.warm_up",
        True,
        "Encode a slot and answer a question on a scratch memory at `configure`, so that the first question is not "
        "slower than others; false: the node is ready a little earlier",
        field="engine.warm_up",
    ),
    ParameterSpec(
        "model.instruction",
        INSTRUCTION,
        "Instruction prepended to every question",
        live=True,
        field="engine.instruction",
    ),
    ParameterSpec(
        "cameras",
        ["camera"],
        "Names of the cameras. One camera: its topic is image, to be remapped; several: NAME/image each",
        field="engine.cameras",
    ),
    ParameterSpec(
        "image.transport",
        "raw",
        "raw: sensor_msgs/Image; compressed: sensor_msgs/CompressedImage (JPEG, PNG) on TOPIC/compressed",
        choices=("raw", "compressed"),
    ),
    ParameterSpec(
        "image.reliability",
        "auto",
        "Reliability QoS of the camera subscriptions; auto: reliable if every publisher offers it, else best effort",
        choices=("auto", "best_effort", "reliable"),
    ),
    ParameterSpec(
        "image.decoder",
        DECODERS[0],
        "Decoder of raw images; auto: cv_bridge for the encodings that it decodes correctly on this machine, else the "
        "built-in decoder",
        choices=DECODERS,
        field="decoding.decoder",
    ),
    ParameterSpec(
        "image.significant_bits",
        0,
        "Significant bits of 16-bit samples; 0: estimated from the images; 16: the high byte is used [bits]",
        (0, 16),
        field="decoding.significant_bits",
    ),
    ParameterSpec(
        "image.compressed_colours",
        COLOUR_ORDERS[0],
        'Colours of compressed images whose format names rgb, such as "rgb8; jpeg compressed rgb8". standard: as any '
        "viewer shows them; as_named: red and blue exchanged, as image_transport's subscriber does",
        choices=COLOUR_ORDERS,
        field="decoding.compressed_colours",
    ),
    ParameterSpec(
        "image.max_megapixels",
        MAX_IMAGE_PIXELS / 1e6,
        "Largest image accepted [million pixels]",
        (0.01, 1000.0),
        field="decoding.max_megapixels",
    ),
    ParameterSpec(
        "sample_fps",
        1.0,
        "Frames per second of message time that enter the memory; two frames make a slot [1/s]",
        (0.01, 60.0),
        live=True,
        field="engine.sample_fps",
    ),
    ParameterSpec(
        "time.on_jump_back",
        JumpBack.FORK.value,
        "What happens after a camera's stamps jumped back, because a bag looped or a clock was set. ignore: its frames "
        "are dropped until their stamps exceed all earlier ones; reset: its part of the memory is forgotten; fork: "
        "its part is kept, and new frames are appended",
        choices=tuple(choice.value for choice in JumpBack),
    ),
    ParameterSpec(
        "time.jump_s",
        2.0,
        "A camera's stamps have jumped back if they fall by more than this and then continue from there for at least "
        "this long; otherwise the frames are only late [s]",
        (0.1, 3600.0),
    ),
    ParameterSpec(
        "memory.policy",
        "flash",
        "Retention policy. flash: Flash Memory; star: STAR memory of Flash-VStream-LLaVA, by the rule of its paper and "
        "in the sizes of its checkpoint; recent: the newest slots; uniform: evenly spaced slots; "
        "timechat_online, infinipot_v, fluxmem: single tokens, by the rules of these papers. All but star use as many "
        "tokens as flash",
        choices=POLICIES,
        field="engine.policy",
    ),
    ParameterSpec(
        "memory.retention",
        RETENTIONS[0],
        "What policy flash stores. published: one cluster per synopsis slot; hierarchical: memory.store_factor "
        "clusters per synopsis slot, with merge costs and key frames that preserve rare events for longer",
        choices=RETENTIONS,
        live=True,
    ),
    ParameterSpec(
        "memory.store_factor",
        4,
        "Stored clusters per synopsis slot with retention hierarchical [clusters]",
        (1, 16),
        live=True,
    ),
    ParameterSpec(
        "memory.grouping",
        GROUPINGS[0],
        "Which stored clusters share an entry with retention hierarchical. by_weight: those whose merge costs least, "
        "where weights count a little, for the least mean distance of all slots; by_age: all but transient clusters "
        "count equally, and time by the logarithm of the age, so that what was seen once long ago keeps an entry",
        choices=GROUPINGS,
        live=True,
    ),
    ParameterSpec(
        "memory.synopsis_slots",
        60,
        "Clusters of the synopsis, which represents everything seen at low resolution [slots]",
        (1, 4096),
        live=True,
        field="engine.memory.csm_slots",
    ),
    ParameterSpec(
        "memory.key_frame_slots",
        30,
        "Key frames at high resolution, at most memory.synopsis_slots [slots]",
        (1, 4096),
        live=True,
        field="engine.memory.dam_slots",
    ),
    ParameterSpec(
        "memory.tokens",
        0,
        "Budget of visual tokens: synopsis and key frames are scaled alike to fit it; 0: not scaled [tokens]",
        (0, 1000000),
        live=True,
    ),
    ParameterSpec(
        "memory.recent_slots",
        1,
        "Newest slots of each camera that are always among the key frames; 0: none, as published [slots]",
        (0, 4096),
        live=True,
    ),
    ParameterSpec(
        "memory.exemplars",
        2,
        "Slots that each cluster stores individually at high resolution: those nearest to its centroid [slots]",
        (1, 16),
        live=True,
    ),
    ParameterSpec(
        "memory.horizon_slots",
        120,
        "Longest time span seen in training; the time ids of longer memories are scaled to it; 0: not scaled [slots]",
        (0, 1000000),
        live=True,
    ),
    ParameterSpec(
        "memory.last_seen_ids",
        False,
        "Time ids encode how long ago a cluster was last seen; false: its mean time, as published",
        live=True,
    ),
    ParameterSpec(
        "memory.episode_slots",
        0.0,
        "Weight of time in clustering: equal views this far apart count as different visits; 0: time does not count, "
        "as published [slots]",
        (0.0, 1e6),
        live=True,
    ),
    ParameterSpec(
        "archive.path",
        "",
        "Folder that the memory is saved to and restored from, created if missing; empty: nothing is written",
    ),
    ParameterSpec(
        "archive.snapshot_s",
        30.0,
        "Longest time between a change of the memory and its snapshot in archive.path [s]",
        (1.0, 86400.0),
        live=True,
    ),
    ParameterSpec(
        "archive.max_gib",
        0.0,
        "Largest archive of key frames in archive.path, without the snapshot; a full archive is thinned; 0: no key "
        "frames are archived [GiB]",
        (0.0, 65536.0),
        live=True,
    ),
    ParameterSpec(
        "archive.max_days",
        30.0,
        "Age at which an archived key frame is deleted, in message time [days]",
        (0.01, 36500.0),
        live=True,
    ),
    ParameterSpec(
        "archive.question_slots",
        32,
        "Most archived key frames used to answer a question about an interval. They are used if the memory shows fewer "
        "moments of the interval than half this number; 0: never [slots]",
        (0, 4096),
        live=True,
    ),
    ParameterSpec(
        "archive.search_slots",
        256,
        "Most archived key frames used by a search of the archive; 0: it cannot be searched as a whole [slots]",
        (0, 65536),
        live=True,
    ),
    ParameterSpec(
        "privacy.blur_faces",
        False,
        "Cover faces that are detected with a plain colour before a frame is encoded, stored or archived; needs pip "
        "install 'flash_vstream_ros[faces]', without which `configure` fails. docs/security.md says how many faces are "
        "missed. An invalid value at start counts as true",
        field="engine.blur_faces",
        if_invalid=True,
    ),
    ParameterSpec(
        "static.threshold",
        6.0,
        "Static-scene filter: a slot is not encoded if the mean colour of every image block (32 along the shorter "
        "side) is within this of the camera's last encoded slot; 0: every slot is encoded [levels of 255]",
        (0.0, 255.0),
        live=True,
    ),
    ParameterSpec(
        "static.max_interval_s",
        60.0,
        "Longest time between two encoded slots of a camera, however static the scene [s]",
        (0.1, 86400.0),
        live=True,
    ),
    *POSE_PARAMETERS,
    *ANSWER_PARAMETERS,
    *WATCH_PARAMETERS,
)
BY_NAME = {spec.name: spec for spec in PARAMETERS}
