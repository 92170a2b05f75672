"""`cg agent publish-offers`: publish the kinds of turns that a worker handles."""

from __future__ import annotations

from typing import Annotated, Any

from attrs import frozen

from cgworker.cli.options import Flag


@frozen(kw_only=True)
class PublishedOffers:
    """What was published: each a `worker.offers.PublishedOffer`, whose module is loaded only to publish."""

    published: tuple[Any, ...]


async def publish_offers(
    app: Annotated[
        str,
        Flag("--app", metavar="MODULE:WORKER", help="The worker, such as desk:worker for desk.py."),
    ],
) -> PublishedOffers:
    """Publish the kinds of turns a worker handles, each with the JSON schema of its input.

    The schemas come from the hints of its functions. What else the agent's public metadata and its offers
    say stays.
    """
    from cgworker.cli.apps import load_workers  # no other command about agents needs the worker
    from cgworker.worker.offers import publish_offers

    published: list[Any] = []
    for worker in load_workers([app]):
        async with worker.kernel:
            published += await publish_offers(worker)
    return PublishedOffers(published=tuple(published))
