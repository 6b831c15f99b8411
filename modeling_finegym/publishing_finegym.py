"""Write the code of a checkpoint beside its weights when `save_pretrained` is called."""

import shutil
from pathlib import Path


def copy_code(folder: str | Path) -> None:
    """Copy every Python file beside this one to `folder`."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for source in sorted(Path(__file__).parent.glob("*.py")):
        if source.resolve() != (folder / source.name).resolve():
            shutil.copyfile(source, folder / source.name)


class PublishedModelMixin:
    """
    Makes every saved checkpoint loadable by the Auto classes with `trust_remote_code=True`: `save_pretrained` names
    the classes in `config.json` (all the Auto classes, not only the saved one's) and copies the code.
    """

    def save_pretrained(self, save_directory: str | Path, is_main_process: bool = True, **kwargs) -> None:
        # Imported here because they depend on the models, and because Transformers copies only those files of a
        # checkpoint that a relative import names: a fine-tuned child keeps its processor, pipeline and handler.
        from .handler import EndpointHandler  # noqa: F401
        from .pipeline_finegym import FineGymPipeline
        from .video_processing_finegym import FineGymVideoProcessor

        family = type(self).__name__.removesuffix("ForVideoClassification").removesuffix("Model")
        config_file, code_file = (cls.__module__.rpartition(".")[2] for cls in (type(self.config), type(self)))
        self.config.auto_map = {
            "AutoConfig": f"{config_file}.{family}Config",
            "AutoModel": f"{code_file}.{family}Model",
            "AutoModelForVideoClassification": f"{code_file}.{family}ForVideoClassification",
            "AutoVideoProcessor": f"video_processing_finegym.{FineGymVideoProcessor.__name__}",
        }
        self.config.custom_pipelines = {
            "video-classification": {
                "impl": f"pipeline_finegym.{FineGymPipeline.__name__}",
                "pt": ["AutoModelForVideoClassification"],
                "type": "video",
            }
        }
        if is_main_process:
            copy_code(save_directory)
        super().save_pretrained(save_directory, is_main_process=is_main_process, **kwargs)
