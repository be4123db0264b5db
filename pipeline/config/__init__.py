"""One typed model of a run, read from a YAML file and overridden by `--set a.b=c`.

Every stage takes a `Config`; every field says what it means. The defaults are the set-up that README and
docs/results.md measure; `configs/default.yaml` writes them out.
"""

from pipeline.config.adapt import AdaptConfig
from pipeline.config.augment import AugmentConfig
from pipeline.config.describe import (
    DescribeConfig,
    GlobalsConfig,
    ImageConfig,
    KeypointsConfig,
    LocalsConfig,
    MapsConfig,
    SuperGlobalModulesConfig,
)
from pipeline.config.loading import load_config, parse_config, with_values
from pipeline.config.paths import expand_argument, expand_path
from pipeline.config.rerank import RerankConfig, parse_chain
from pipeline.config.run import EXCLUDE, Config, EvaluateConfig
from pipeline.config.serve import ServeConfig, ThumbnailsConfig
from pipeline.config.train_detector import TrainDetectorConfig
from pipeline.config.train_global import (
    ClassificationConfig,
    ContrastConfig,
    LocalsLossConfig,
    TrainGlobalConfig,
)
from pipeline.config.train_loop import LoopConfig
from pipeline.config.train_rerank import (
    AMESModelConfig,
    CVNetModelConfig,
    ELViSModelConfig,
    LoCoReModelConfig,
    RRTModelConfig,
    RRTSOPJointConfig,
    RRTSOPModelConfig,
    TrainRerankConfig,
)

__all__ = [
    "EXCLUDE",
    "AMESModelConfig",
    "AdaptConfig",
    "AugmentConfig",
    "CVNetModelConfig",
    "ClassificationConfig",
    "Config",
    "ContrastConfig",
    "DescribeConfig",
    "ELViSModelConfig",
    "EvaluateConfig",
    "GlobalsConfig",
    "ImageConfig",
    "KeypointsConfig",
    "LoCoReModelConfig",
    "LocalsConfig",
    "LocalsLossConfig",
    "LoopConfig",
    "MapsConfig",
    "RRTModelConfig",
    "RRTSOPJointConfig",
    "RRTSOPModelConfig",
    "RerankConfig",
    "ServeConfig",
    "SuperGlobalModulesConfig",
    "ThumbnailsConfig",
    "TrainDetectorConfig",
    "TrainGlobalConfig",
    "TrainRerankConfig",
    "expand_argument",
    "expand_path",
    "load_config",
    "parse_chain",
    "parse_config",
    "with_values",
]
