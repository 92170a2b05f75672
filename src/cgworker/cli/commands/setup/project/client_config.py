"""`cg setup project client-config`: write this machine's config."""

from __future__ import annotations

from typing import Any

from cgworker.cli.options import AdminBaseUrl, AdminBearerFile, BaseUrl, ConfigPath
from cgworker.cli.project_flags import ProjectFlags
from cgworker.cli.results import ClientConfig
from cgworker.paths import admin_bearer_path
from cgworker.profiles import DEFAULT_BASE_URL, ConfigFile, non_blank

_ADMIN_URL = "http://127.0.0.1:8001"


def client_config(
    project: ProjectFlags,
    base_url: BaseUrl = None,
    admin_base_url: AdminBaseUrl = None,
    admin_auth_token_file: AdminBearerFile = None,
    config: ConfigPath = None,
) -> ClientConfig:
    """Write the servers' addresses and the operator's bearer file to this machine's config."""
    config_file = ConfigFile.locate(config)
    written = ClientConfig(
        config_path=str(config_file.path),
        base_url=non_blank(base_url) or DEFAULT_BASE_URL,
        admin_base_url=non_blank(admin_base_url) or _ADMIN_URL,
        admin_auth_token_file=non_blank(admin_auth_token_file) or str(admin_bearer_path(project.name)),
        project_id=project.name,
    )

    def change(content: dict[str, Any]) -> None:
        content["base_url"] = written.base_url
        content["admin_base_url"] = written.admin_base_url
        content["admin_auth"] = {"token_file": written.admin_auth_token_file}

    config_file.update(change)
    return written
