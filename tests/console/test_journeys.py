"""Journeys through the console in a real Chromium."""

from __future__ import annotations

import re

from tests.console.sample import APPROVAL, REPORT, WRITING, Sample
from tests.console.serving import Browser


def at(link: str, path: str) -> str:
    """The address of a view of the console that a link opens."""
    return link.split("/login")[0] + path


async def test_a_link_opens_the_console_once(link: str, browser: Browser) -> None:
    """A second browser with the same link is turned away, and so is one without a link."""
    page = await browser.signed_in(link)
    await page.goto(at(link, "/turns"))
    assert await page.title() == f"Turns · {await page.locator('.brand').inner_text()} · CommonGround"
    other = await browser.page()
    assert (await other.goto(link)).status == 403
    assert (await other.goto(at(link, "/turns"))).status == 401
    assert browser.complaints == []


async def test_the_list_of_turns_moves_by_itself(sample: Sample, link: str, browser: Browser) -> None:
    """A turn that is dispatched elsewhere shows up, and then its outcome, without loading the page again."""
    page = await browser.signed_in(link)
    await page.goto(at(link, "/turns"))
    await page.get_by_text("No turn matches").wait_for()
    turn_id = await sample.dispatch(REPORT, {"subject": "Fjords", "pages": 3})
    await page.locator(f"#{turn_id} .badge", has_text="succeeded").wait_for()
    assert browser.complaints == []


async def test_a_turns_text_comes_as_it_is_written(sample: Sample, link: str, browser: Browser) -> None:
    """The page of a turn shows what its handler streams, then its result."""
    page = await browser.signed_in(link)
    turn_id = await sample.dispatch(WRITING, {"subject": "a queue"})
    await page.goto(at(link, f"/turns/{turn_id}"))
    await page.locator(".stream", has_text="a queue met a worker").wait_for()
    sample.go_on.set()
    await page.locator(".stream", has_text="never repeated any work").wait_for()
    await page.get_by_role("heading", name="Result").wait_for()
    assert browser.complaints == []


async def test_stop_is_asked_first_and_then_stops(sample: Sample, link: str, browser: Browser) -> None:
    """The button leads to a question; its answer stops the running turn."""
    page = await browser.signed_in(link)
    turn_id = await sample.dispatch(WRITING, {"subject": "a queue"})
    await page.goto(at(link, f"/turns/{turn_id}"))
    await page.get_by_role("link", name="Stop").click()
    await page.get_by_role("button", name="Stop").click()
    await page.locator(".state .badge", has_text=re.compile("stopped")).wait_for()
    assert browser.complaints == []


async def test_a_turn_is_dispatched_by_the_form_of_its_offer(link: str, browser: Browser) -> None:
    """A fault is shown at its field; a list grows; the turn then runs with what was typed."""
    page = await browser.signed_in(link)
    await page.goto(at(link, "/dispatch"))
    await page.get_by_role("link", name=f"writer: {REPORT}").click()
    await page.get_by_label("subject").fill("Fjords")
    await page.get_by_label("pages", exact=True).fill("many")
    await page.get_by_role("button", name="Dispatch", exact=True).last.click()
    await page.locator(".faults", has_text="is not a number").wait_for()
    assert await page.get_by_label("subject").input_value() == "Fjords"
    await page.get_by_label("pages", exact=True).fill("3")
    await page.get_by_role("button", name="Add to places").click()
    await page.get_by_label("city").fill("Oslo")
    await page.get_by_role("button", name="Dispatch", exact=True).last.click()
    await page.wait_for_url("**/turns/T-*")
    await page.get_by_role("heading", name="Result").wait_for()
    await page.locator("pre", has_text='"3 pages"').first.wait_for()
    assert browser.complaints == []


async def test_who_goes_back_finds_the_form_as_it_was_typed(link: str, browser: Browser) -> None:
    """Not the browser's page that asks whether to send it again; forward leads to the turn."""
    page = await browser.signed_in(link)
    await page.goto(at(link, f"/dispatch/writer/{REPORT}"))
    await page.get_by_label("pages", exact=True).fill("3")
    await page.get_by_role("button", name="Dispatch", exact=True).last.click()
    await page.locator(".faults", has_text="is required").wait_for()
    await page.get_by_label("subject").fill("Fjords")
    await page.get_by_role("button", name="Dispatch", exact=True).last.click()
    await page.wait_for_url("**/turns/T-*")
    turn = page.url
    await page.go_back()
    assert await page.get_by_label("pages", exact=True).input_value() == "3"
    await page.go_forward()
    assert page.url == turn
    assert browser.complaints == []


async def test_a_question_is_answered_by_the_form_of_its_schema(
    sample: Sample, link: str, browser: Browser
) -> None:
    """A refused answer shows its faults at the fields; the right one lets the turn go on."""
    page = await browser.signed_in(link)
    await page.goto(at(link, "/questions"))
    await page.get_by_text("No turn asks anything").wait_for()
    await sample.dispatch(APPROVAL, {"subject": "Fjords"}, "ask")
    await page.get_by_role("link", name="Answer or decline").click()
    await page.get_by_label("stars").fill("4.5")
    await page.get_by_label("approved").select_option("yes")
    await page.get_by_role("button", name="Answer", exact=True).last.click()
    stars = page.get_by_label("stars")
    await page.locator("[aria-invalid]").first.wait_for()
    described = (await stars.get_attribute("aria-describedby")).strip()
    assert "integer" in await page.locator(f"#{described}").inner_text()
    await stars.fill("4")
    await page.get_by_label("size").select_option(label="large")
    await page.get_by_label("city").fill("Bodø")
    await page.get_by_role("button", name="Answer", exact=True).last.click()
    await page.wait_for_url("**/turns/T-*")
    await page.locator(".state .badge", has_text="succeeded").wait_for()
    await page.locator("pre", has_text='"stars": 4').first.wait_for()
    assert browser.complaints == []


async def test_a_question_is_declined_with_a_reason(sample: Sample, link: str, browser: Browser) -> None:
    """The turn ends as its handler lets it."""
    page = await browser.signed_in(link)
    await sample.dispatch(APPROVAL, {"subject": "Fjords"}, "ask")
    await page.goto(at(link, "/questions"))
    await page.get_by_role("link", name="Answer or decline").click()
    await page.get_by_label("Why not?").fill("not on a Friday")
    await page.get_by_role("button", name="Decline").click()
    await page.locator(".state .badge", has_text="failed").wait_for()
    assert "not on a Friday" in await page.locator("main").inner_text()
    assert browser.complaints == []


async def test_a_closed_turn_is_done_again(sample: Sample, link: str, browser: Browser) -> None:
    """Asked first; then the page is that of the new turn."""
    page = await browser.signed_in(link)
    turn_id = await sample.dispatch(REPORT, {"subject": "Trolls", "pages": 1})
    await page.goto(at(link, f"/turns/{turn_id}"))
    await page.get_by_role("link", name="Do again").click()
    await page.get_by_role("button", name="Do again").click()
    await page.wait_for_url(lambda url: url.rpartition("/")[2] not in (turn_id, "redo"))
    await page.locator(".state .badge", has_text="succeeded").wait_for()
    assert browser.complaints == []


async def test_a_schedule_is_paused_and_triggered(sample: Sample, link: str, browser: Browser) -> None:
    """Its turn is dispatched now, and none later until it is unpaused."""
    await sample.fill()
    page = await browser.signed_in(link)
    await page.goto(at(link, "/schedules"))
    await page.get_by_role("button", name="Pause nightly-report").click()
    await page.locator(".badge", has_text="paused").wait_for()
    await page.get_by_role("button", name="Trigger now nightly-report").click()
    await page.wait_for_url("**/turns/T-*")
    assert browser.complaints == []


async def test_the_page_says_that_the_kernel_is_away_and_goes_on(
    sample: Sample, link: str, browser: Browser
) -> None:
    """Nobody loads it again: the banner comes and goes, and then the turn of meanwhile is there."""
    page = await browser.signed_in(link)
    await page.goto(at(link, "/turns"))
    await page.get_by_text("No turn matches").wait_for()
    sample.kernel.faults.answer("feed", times=4)
    turn_id = await sample.dispatch(REPORT, {"subject": "Fjords", "pages": 3})
    await page.locator("#trouble", has_text="does not answer").wait_for()
    await page.locator("#trouble").wait_for(state="hidden")
    await page.locator(f"#{turn_id} .badge", has_text="succeeded").wait_for()


async def test_a_page_that_could_not_be_read_once_comes_by_itself(
    sample: Sample, link: str, browser: Browser
) -> None:
    """Neither a whole page nor its moving part waits for the next change."""
    page = await browser.signed_in(link)
    turn_id = await sample.dispatch(WRITING, {"subject": "a queue"})
    sample.kernel.faults.answer("get")
    assert (await page.goto(at(link, f"/turns/{turn_id}"))).status == 503
    await page.locator(".state .badge", has_text="running").wait_for()
    sample.kernel.faults.answer("get")
    sample.go_on.set()
    await page.locator(".state .badge", has_text="succeeded").wait_for()


async def test_a_turn_is_told_something_and_a_live_update_keeps_what_is_half_typed(
    sample: Sample, link: str, browser: Browser
) -> None:
    """Two tabs: what one types stays while the page moves; the other sends its own."""
    page = await browser.signed_in(link)
    turn_id = await sample.dispatch(WRITING, {"subject": "a queue"})
    await page.goto(at(link, f"/turns/{turn_id}"))
    await page.get_by_label("Tell it something").fill("half of a sen")
    other = await page.context.new_page()
    await other.goto(at(link, f"/turns/{turn_id}"))
    await other.get_by_label("Tell it something").fill('{"louder": true}')
    await other.get_by_role("button", name="Tell").click()
    for tab in (other, page):
        await tab.locator("summary", has_text="message").wait_for()
        await tab.locator("pre", has_text='"louder": true').wait_for()
    assert await page.get_by_label("Tell it something").input_value() == "half of a sen"
    assert await other.get_by_label("Tell it something").input_value() == ""
    await page.get_by_role("button", name="Tell").click()
    await page.locator("pre", has_text="half of a sen").wait_for()
    assert browser.complaints == []


async def test_a_suspended_turn_is_resumed(sample: Sample, link: str, browser: Browser) -> None:
    """Its handler runs once more, and asks again."""
    page = await browser.signed_in(link)
    turn_id = await sample.dispatch(APPROVAL, {"subject": "Fjords"}, "ask")
    await page.goto(at(link, f"/turns/{turn_id}"))
    await page.locator(".why code", has_text="cg turn answer").wait_for()
    await page.get_by_role("link", name="Answer", exact=True).click()
    await page.get_by_role("link", name="Answer or decline").wait_for()
    await page.go_back()
    await page.get_by_role("button", name="Resume").click()
    await page.locator(".phases li", has_text="attempt 2").first.wait_for()
    await page.get_by_role("button", name="Resume").wait_for()  # it is suspended again
    assert browser.complaints == []


async def test_a_schedule_is_unpaused_and_deleted(sample: Sample, link: str, browser: Browser) -> None:
    """Deleting is asked first."""
    await sample.fill()
    page = await browser.signed_in(link)
    await page.goto(at(link, "/schedules"))
    await page.get_by_role("button", name="Pause nightly-report").click()
    await page.get_by_role("button", name="Unpause nightly-report").click()
    await page.get_by_role("button", name="Pause nightly-report", exact=True).wait_for()
    await page.get_by_role("link", name="Delete nightly-report").click()
    await page.get_by_role("heading", name="Delete nightly-report?").wait_for()
    await page.get_by_role("button", name="Delete").click()
    await page.get_by_text("There is no schedule").wait_for()
    assert browser.complaints == []


async def test_a_session_that_has_ended_says_so(link: str, browser: Browser) -> None:
    """The console was started again: the page does not promise to go on."""
    page = await browser.signed_in(link)
    await page.goto(at(link, "/turns"))
    await page.get_by_text("No turn matches").wait_for()
    await page.context.clear_cookies()
    await page.evaluate("window.dispatchEvent(new Event('pagehide'))")
    await page.evaluate("window.dispatchEvent(new Event('pageshow'))")
    await page.locator("#trouble", has_text="session has ended").wait_for()
