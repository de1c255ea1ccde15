"""`spec.tracking`: which experiment trackers a run is shown in, beside its own folder."""

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunesmith.api.base import Rule, Schema
from tunesmith.api.cluster import KeyRef

Address = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\s]+$")]

_CREDENTIALS = "//[^/]*@"
"""What stands between an address's // and its host, up to RFC 3986's @."""


def _without_credentials(name: str, field: str, remedy: str, optional: bool = False) -> Rule:
    return Rule(
        cel=(f"!has(self.{field}) || " if optional else "") + f"!self.{field}.matches('{_CREDENTIALS}')",
        message=f"holds a user or a password, which everybody could read; {remedy}",
        holds=lambda s: not re.search(_CREDENTIALS, getattr(s, name) or ""),
        field=field,
    )


class MLflowTracking(Schema):
    """A run in MLflow."""

    tracking_uri: Address
    """The tracking server: https://HOST, or http://HOST; with `tunesmith run` also sqlite:///FILE."""
    experiment: Annotated[str, Field(min_length=1, max_length=500)] = "tunesmith"
    """The experiment that the run belongs to; made where it is missing."""
    token_secret: KeyRef | None = None
    """A token for the server, as MLFLOW_TRACKING_TOKEN; with `tunesmith run` set that variable yourself."""
    username_secret: KeyRef | None = None
    """A user of the server, as MLFLOW_TRACKING_USERNAME."""
    password_secret: KeyRef | None = None
    """The user's password, as MLFLOW_TRACKING_PASSWORD."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _without_credentials(
            "tracking_uri", "trackingUri", "take them out and name Secrets in usernameSecret and passwordSecret"
        ),
        Rule(
            cel="self.trackingUri.matches('^(https?://[^/?#]|sqlite:///)')",
            message="should be https://HOST, http://HOST, or with `tunesmith run` sqlite:///FILE",
            holds=lambda s: re.search("^(https?://[^/?#]|sqlite:///)", s.tracking_uri) is not None,
            field="trackingUri",
        ),
        Rule(
            cel="self.trackingUri.matches('^https?://')",
            message="is a local file, which works only with `tunesmith run`; use the address of a server",
            holds=lambda s: not s.tracking_uri.startswith("sqlite:"),
            field="trackingUri",
            where="cluster",
        ),
        Rule(
            cel="has(self.usernameSecret) == has(self.passwordSecret)",
            message="set usernameSecret and passwordSecret, or neither",
            holds=lambda s: (s.username_secret is None) == (s.password_secret is None),
        ),
        Rule(
            cel="!has(self.tokenSecret) || !has(self.usernameSecret)",
            message="set tokenSecret, or usernameSecret and passwordSecret, not both",
            holds=lambda s: s.token_secret is None or s.username_secret is None,
        ),
    )


class TensorBoardTracking(Schema):
    """Event files in the folder tensorboard of the run's folder."""


class WandbTracking(Schema):
    """A run in Weights & Biases."""

    project: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\\#?%:\s]+$")]
    """The project that the run belongs to."""
    entity: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^/\\#?%:\s]+$")] | None = None
    """The user or team that owns the project; by default the key's own."""
    mode: Literal["online", "offline"] = "online"
    """offline leaves files in the folder wandb of the run's folder, for `wandb sync`."""
    base_url: Address | None = None
    """A server of one's own, https://HOST; by default W&B's."""
    api_key_secret: KeyRef | None = None
    """The key of the API, as WANDB_API_KEY; with `tunesmith run` set that variable, or use `wandb login`."""

    rules: ClassVar[tuple[Rule, ...]] = (
        _without_credentials("base_url", "baseUrl", "take them out and name a Secret in apiKeySecret", optional=True),
        Rule(
            cel="!has(self.baseUrl) || self.baseUrl.matches('^https?://[^/?#]')",
            message="should be https://HOST or http://HOST",
            holds=lambda s: s.base_url is None or re.search("^https?://[^/?#]", s.base_url) is not None,
            field="baseUrl",
        ),
        Rule(
            cel="self.mode == 'offline' || has(self.apiKeySecret)",
            message="is missing: mode online needs the key of the API; name a Secret, or use mode: offline",
            holds=lambda s: s.mode == "offline" or s.api_key_secret is not None,
            field="apiKeySecret",
            where="cluster",
        ),
    )


class TrackingSpec(Schema):
    """Shows the run in experiment trackers, one or several: metrics.jsonl, the evaluation, the report."""

    mlflow: MLflowTracking | None = None
    """A run in MLflow."""
    tensorboard: TensorBoardTracking | None = None
    """TensorBoard's files in the run's folder."""
    wandb: WandbTracking | None = None
    """A run in Weights & Biases."""

    @property
    def secrets(self) -> dict[str, KeyRef]:
        """The keys of Secrets, by the environment variables that the trackers' libraries read them from."""
        found: dict[str, KeyRef | None] = {}
        if self.mlflow is not None:
            found["MLFLOW_TRACKING_TOKEN"] = self.mlflow.token_secret
            found["MLFLOW_TRACKING_USERNAME"] = self.mlflow.username_secret
            found["MLFLOW_TRACKING_PASSWORD"] = self.mlflow.password_secret
        if self.wandb is not None:
            found["WANDB_API_KEY"] = self.wandb.api_key_secret
        return {name: key for name, key in found.items() if key is not None}
