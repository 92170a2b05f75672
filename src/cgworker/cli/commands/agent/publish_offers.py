"""`cg agent publish-offers`: publish the kinds of turns that a worker handles."""

from __future__ import annotations

from typing import Annotated, Any

from attrs import frozen

from cgworker.cli.options import Flag


@frozen(kw_only=True)
class PublishedOffers:
    """The published offers, each a `worker.offers.PublishedOffer`."""

    published: tuple[Any, ...]


async def publish_offers(
    app: Annotated[
        str,
        Flag("--app", metavar="MODULE:WORKER", help="The worker, such as desk:worker for desk.py."),
    ],
) -> PublishedOffers:
    """Publish the kinds of turns that a worker handles, each with the JSON schema of its input.

    The schemas come from the type hints of its functions. Other public metadata of the agent is kept.
    """
    from cgworker.cli.apps import load_workers  # the other commands of this group do not need the worker
    from cgworker.worker.offers import publish_offers

    published: list[Any] = []
    for worker in load_workers([app]):
        async with worker.kernel:
            published += await publish_offers(worker)
    return PublishedOffers(published=tuple(published))
