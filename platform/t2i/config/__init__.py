"""The configuration of a job: one dataclass that nests those of the modules it uses, each declared beside its code.

Its defaults are overridden by the YAML of a preset, and that by ``key=value`` words. It is checked before any work:
unknown and repeated keys, wrong types, numbers out of bounds and invalid combinations end in one sentence.
"""

from t2i.config.commands import Command
from t2i.config.errors import ConfigError
from t2i.config.job import run_job
from t2i.config.loading import CONFIGS, describe, load_config, load_mapping, load_text
from t2i.config.paths import MODEL_STORE, ROOT, absolute, is_same, recorded
from t2i.config.words import check_encoding

__all__ = [
    "CONFIGS",
    "MODEL_STORE",
    "ROOT",
    "Command",
    "ConfigError",
    "absolute",
    "check_encoding",
    "describe",
    "is_same",
    "load_config",
    "load_mapping",
    "load_text",
    "recorded",
    "run_job",
]
