"""Rules for public metadata, and its normal form (wire 9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cgworker.errors import ConflictError

_MODES = ("root_request", "child_derivation")


def normal_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata with completed offers; unknown keys are kept at every level.

    Raises:
        ConflictError: an offer or the provision breaks a rule; the message names it.
    """
    normal = dict(metadata)
    if normal.get("turn_offers") is not None:
        normal["turn_offers"] = _normal_offers(normal["turn_offers"])
    _check_provision(normal.get("provision"))
    return normal


def has_offers(metadata: Mapping[str, Any]) -> bool:
    """Whether normal metadata has offers to list."""
    return bool(metadata.get("turn_offers"))


def _normal_offers(offers: Any) -> list[dict[str, Any]]:
    _require(isinstance(offers, list), "turn_offers must be a list")
    normal: dict[str, dict[str, Any]] = {}
    for offer in map(_normal_offer, offers):
        kind = offer["turn_kind"]
        _require(kind not in normal, f"turn_offers contains duplicate turn_kind: {kind}")
        normal[kind] = offer
    return list(normal.values())


def _normal_offer(offer: Any) -> dict[str, Any]:
    _require(isinstance(offer, dict), "turn_offers items must be objects")
    kind = offer.get("turn_kind")
    variants = offer.get("variants", {})
    is_text = isinstance(kind, str) and kind != ""
    _require(is_text, "turn_offers[].turn_kind must be a non-empty string")
    _require_text_or_null(offer, "purpose")
    _require_object(offer.get("calling"), "calling")
    _require_object(offer.get("input_contract"), "input_contract")
    _require_object(variants, "variants")
    _require_text_or_null(offer, "notes")
    _check_calling(offer["calling"])
    return {**offer, "purpose": offer.get("purpose"), "variants": variants, "notes": offer.get("notes")}


def _check_calling(calling: dict[str, Any]) -> None:
    modes = calling.get("authority_modes")
    is_dispatch = calling.get("operation") == "dispatch"
    _require(is_dispatch, "turn_offers[].calling.operation must be 'dispatch'")
    _require(isinstance(modes, list), "turn_offers[].calling.authority_modes must be a list")
    for mode in modes or ():
        is_object = isinstance(mode, dict)
        _require(is_object, "turn_offers[].calling.authority_modes items must be objects")
        _require(
            mode.get("mode") in _MODES,
            f"turn_offers[].calling.authority_modes[].mode must be one of: {', '.join(_MODES)}",
        )


def _check_provision(provision: Any) -> None:
    if provision is None:
        return
    _require(isinstance(provision, dict), "public_metadata.provision must be an object")
    _require(
        "available_roles" not in provision,
        "public_metadata.provision.available_roles is unsupported; "
        "use public_metadata.turn_offers[].variants.roles",
    )


def _require_object(value: Any, name: str) -> None:
    _require(isinstance(value, dict), f"turn_offers[].{name} must be an object")


def _require_text_or_null(offer: dict[str, Any], name: str) -> None:
    _require(isinstance(offer.get(name), str | None), f"turn_offers[].{name} must be a string or null")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ConflictError(message)
