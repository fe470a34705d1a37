"""The entry point that tells lmms-eval of the model."""

from lmms_eval.models.registry_v2 import ModelManifest

MANIFEST = ModelManifest(
    model_id="flash_vstream", simple_class_path="flash_vstream_ros.lmms_eval_plugin.model.FlashVStream"
)
