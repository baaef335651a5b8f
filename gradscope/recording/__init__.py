"""The recording: the only thing that passes from the recorder to the screens. Never imports torch."""

from gradscope.recording.model import Fault, Outcome, Recording, RunInfo, SourceFile
from gradscope.recording.tables import NONE, Table

__all__ = ["NONE", "Fault", "Outcome", "Recording", "RunInfo", "SourceFile", "Table"]
