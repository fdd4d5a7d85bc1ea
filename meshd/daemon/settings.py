"""What the core process is told by its supervisor."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict


class CoreSettings(BaseModel):
    """Settings of one core."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str
    data: Path
    store: Literal["embedded"] = "embedded"
    grpc: str
    http: str
    forget_after_s: float = 600.0
