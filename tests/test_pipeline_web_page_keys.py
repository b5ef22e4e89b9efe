"""Keys, fingers and gamepads in a real Chromium: every layout, lost releases, remapping, pads of any
make."""

import asyncio

import pytest

from tests.browser import eventually, needs_chromium, page, playing, so, text
from tests.until import until

pytestmark = [needs_chromium, pytest.mark.timeout(180)]

SEND = """([kind, fields]) => !document.body.dispatchEvent(new KeyboardEvent(kind,
  {bubbles: true, cancelable: true, ...fields}))"""


async def send(tab, kind, **fields):
    """A key event as some keyboard sends it; True if the page keeps it from the browser."""
    return await tab.evaluate(SEND, [kind, fields])


def test_keys_that_steer_or_command_stay_with_the_page_but_not_in_the_prompt(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            for code, key in (
                *(("KeyW", "w"), ("KeyA", "a"), ("ShiftLeft", "Shift"), ("ArrowUp", "ArrowUp")),
                *(("Slash", "/"), ("Quote", "'"), ("KeyV", "v"), ("KeyT", "t")),
            ):
                await tab.evaluate("document.activeElement.blur()")
                assert await send(tab, "keydown", code=code, key=key), f"{key} reached the browser"
                await send(tab, "keyup", code=code, key=key)
            for fields in (
                {"code": "KeyR", "key": "r", "ctrlKey": True},
                {"code": "KeyT", "key": "t", "metaKey": True},
                {"code": "F5", "key": "F5"},
                {"code": "Tab", "key": "Tab"},
            ):
                assert not await send(tab, "keydown", **fields), f"{fields} is the browser's"
            await tab.focus("#prompt")
            typed = """() => !document.getElementById('prompt').dispatchEvent(new KeyboardEvent(
              'keydown', {bubbles: true, cancelable: true, code: 'KeyA', key: 'a'}))"""
            assert not await tab.evaluate(typed)
            assert theatre.show.held == "D"

    run(body)


def test_keyboards_that_tell_no_place_steer_by_letter(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            for key, label in (("a", "DL"), ("D", "DR"), ("s", "B"), ("ArrowLeft", "DL")):
                await send(tab, "keydown", code="", key=key)
                await until(lambda label=label: theatre.show.held == label)
                await send(tab, "keyup", code="", key=key)
                await until(lambda: theatre.show.held == "D")
            await send(tab, "keydown", code="Unidentified", key=" ")
            await tab.wait_for_selector("#theatre[data-phase=paused]")

    run(body)


LAYOUT = """() => Object.defineProperty(navigator, 'keyboard', {value: {getLayoutMap: async () =>
  new Map([['KeyW', 'z'], ['KeyA', 'q'], ['KeyS', 's'], ['KeyD', 'd'], ['KeyN', 'n']])}})"""


def test_the_letters_shown_are_those_of_the_users_layout(run):
    async def body(theatre, browser):
        context = await browser.new_context()
        tab = await context.new_page()
        try:
            await tab.add_init_script(f"({LAYOUT})()")
            await tab.goto(theatre.url)
            await playing(tab)
            await tab.click("#show-help")
            shown = await tab.inner_text("#help [data-caps=straight]")
            assert shown.split() == ["Z", "↑"]
            assert (await tab.inner_text("#help [data-caps=left]")).split() == ["Q", "←"]
            await tab.keyboard.press("Escape")
            await send(tab, "keydown", code="KeyA", key="q")  # by place, whatever it prints
            await until(lambda: theatre.show.held == "DL")
            await send(tab, "keyup", code="KeyA", key="q")
            await send(tab, "keydown", code="KeyN", key="ñ")
            await tab.click("#show-help")
            await so(
                tab, "document.querySelector('[data-caps=new-seed]').textContent.includes('Ñ')"
            )
        finally:
            await context.close()

    run(body)


KEY_EVENT = "document.body.dispatchEvent(new KeyboardEvent('{}', {{bubbles: true, {}}}))"


@pytest.mark.parametrize(
    "lost",
    [
        "window.dispatchEvent(new Event('pagehide'))",
        "document.body.dispatchEvent(new MouseEvent('contextmenu', {bubbles: true}))",
        KEY_EVENT.format("keydown", "key: 'Meta', code: 'MetaLeft', metaKey: true"),
        KEY_EVENT.format("keydown", "key: 'Alt', code: 'AltLeft', altKey: true"),
        KEY_EVENT.format("keyup", "key: 'Meta', code: 'MetaLeft'"),
    ],
)
def test_keys_whose_release_the_page_cannot_hear_are_let_go(run, lost):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.keyboard.down("KeyA")
            await until(lambda: theatre.show.held == "DL")
            await tab.evaluate(lost)
            await until(lambda: theatre.show.held == "D", 3)

    run(body)


def test_a_held_key_that_repeats_no_more_is_let_go_and_one_that_never_did_stays(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.keyboard.down("KeyA")
            await asyncio.sleep(2.2)
            assert theatre.show.held == "DL", "keyboards without repeat hold on"
            for _ in range(5):
                await tab.keyboard.down("KeyA")  # repeats
                await asyncio.sleep(0.1)
            await asyncio.sleep(1)
            assert theatre.show.held == "DL"
            await until(lambda: theatre.show.held == "D", 3)
            await tab.keyboard.up("KeyA")
            await tab.keyboard.down("KeyA")
            await tab.keyboard.down("KeyA")
            await tab.keyboard.down("KeyS")  # another key ends the repeating, not the holding
            await asyncio.sleep(2.2)
            assert theatre.show.held == "BL"

    run(body)


def test_a_shift_whose_release_was_lost_is_noticed_by_the_next_event(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await send(tab, "keydown", code="ShiftLeft", key="Shift", shiftKey=True)
            await until(lambda: theatre.show.held == "N")
            await tab.mouse.move(300, 300)
            await until(lambda: theatre.show.held == "D", 3)

    run(body)


def test_another_key_can_be_chosen_and_is_kept_in_this_browser(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.click("#show-settings")
            await tab.click("[data-bind=left]")
            await tab.keyboard.press("KeyJ")
            assert (await text(tab, "[data-bind=left]")).split() == ["J", "←"]
            await tab.click("[data-bind=right]")
            await tab.keyboard.press("Escape")  # leaves it as it is, and the dialog open
            assert await tab.is_visible("#settings")
            assert (await text(tab, "[data-bind=right]")).split() == ["D", "→"]
            await tab.keyboard.press("Escape")
            assert not await tab.is_visible("#settings")
            await tab.reload()
            await playing(tab)
            for key, label in (("KeyJ", "DL"), ("ArrowLeft", "DL"), ("KeyA", "D")):
                await tab.keyboard.down(key)
                await until(lambda label=label: theatre.show.held == label)
                await asyncio.sleep(0.3)
                assert theatre.show.held == label
                await tab.keyboard.up(key)
            await tab.click("#show-settings")
            await tab.click("#keys-restore")
            assert (await text(tab, "[data-bind=left]")).split() == ["A", "←"]

    run(body)


PADS = """() => { const pad = (index, mapping, axes) => ({index, mapping, axes, buttons:
    Array.from({length: 12}, () => ({pressed: false}))});
  window.pads = [pad(0, '', [0.2, -0.1, 0, 0, 0, 0, 0, 0, 0, 3.28]), null, pad(2, 'standard', [0, 0])];
  navigator.getGamepads = () => window.pads; window.dispatchEvent(new Event('gamepadconnected')); }"""


def test_pads_of_any_make_steer_together_from_where_they_rest(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.evaluate(PADS)
            for change, label in (
                ("pads[0].axes[0] = 0.45", "D"),  # 0.25 from its rest
                ("pads[0].axes[0] = -0.2", "DL"),
                ("pads[2].axes[1] = 0.9", "BL"),  # the other pad adds to it
                ("pads[0].axes[0] = 0.2", "B"),
                ("pads[2].axes[1] = 0; pads[0].axes[9] = 0.714", "DL"),  # a cross without buttons
                ("pads[0].axes[9] = 0.143", "B"),
                ("pads[0].axes[9] = 3.28; pads[0].buttons[2].pressed = true", "N"),
                ("pads[0] = null", "D"),  # unplugged while held
                ("pads[2].axes[0] = 0.9", "DR"),
                ("pads[2] = null", "D"),
            ):
                await tab.evaluate(f"() => {{ {change} }}")
                await until(lambda label=label: theatre.show.held == label, 5)
            await tab.evaluate(f"({PADS})(); pads[2].axes[0] = -0.9")  # plugged in again
            await until(lambda: theatre.show.held == "DL", 5)

    run(body)


def test_fingers_bring_no_magnifier_and_no_selection(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url, 360, 740, has_touch=True, is_mobile=True) as tab:
            await playing(tab)
            for selector in ("#zones", '#keys [data-key="left"]'):
                kept = """s => !document.querySelector(s).dispatchEvent(new TouchEvent('touchstart',
                  {bubbles: true, cancelable: true}))"""
                assert await tab.evaluate(kept, selector), "it would start a selection or a zoom"
                style = f"getComputedStyle(document.querySelector('{selector}'))"
                assert await tab.evaluate(f"{style}.userSelect") == "none"
                assert await tab.evaluate(f"{style}.touchAction") == "none"

    run(body)


def test_an_input_method_may_use_enter_and_escape_in_the_prompt(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.focus("#prompt")
            composing = """key => document.getElementById('prompt').dispatchEvent(new KeyboardEvent(
              'keydown', {bubbles: true, cancelable: true, key, code: key, isComposing: true}))"""
            await tab.evaluate(composing, "Escape")
            await eventually(lambda: focused(tab))

    async def focused(tab):
        return await tab.evaluate("document.activeElement.id") == "prompt"

    run(body)


def test_a_click_leaves_space_to_the_world_and_a_tab_leaves_it_to_the_button(run):
    async def body(theatre, browser):
        show = theatre.show
        async with page(browser, theatre.url) as tab:
            await playing(tab)
            await tab.fill("#prompt", "a road at night")
            await tab.click("#prompt-send")
            await until(lambda: show.prompt == "a road at night")
            asked = show._prompts.newest()["version"]
            await tab.keyboard.press("Space")
            await tab.wait_for_selector("#theatre[data-phase=paused]")
            await tab.keyboard.press("KeyA")
            await so(tab, "document.getElementById('toasts').textContent.includes('Space goes on')")
            await tab.keyboard.press("KeyD")
            notes = "[...document.querySelectorAll('#toasts p')].map((note) => note.textContent)"
            assert (await tab.evaluate(notes)).count("Paused: Space goes on.") == 1
            await tab.keyboard.press("Space")
            await playing(tab)
            assert "Paused" not in await text(tab, "#toasts"), "it holds no more"
            assert show._prompts.newest()["version"] == asked, "nothing was pressed again"
            await tab.focus("#prompt")
            for _ in range(2):  # past the list of worlds
                await tab.keyboard.press("Tab")
            for version, key in enumerate(("Space", "Enter"), asked + 1):
                await tab.keyboard.press(key)
                await until(lambda version=version: show._prompts.newest()["version"] == version)
            assert await focused(tab) == "prompt-send" and not show.paused

    async def focused(tab):
        return await tab.evaluate("document.activeElement.id")

    run(body)


def test_fingers_on_a_paused_world_are_told_what_goes_on(run):
    async def body(theatre, browser):
        async with page(browser, theatre.url, 360, 740, has_touch=True, is_mobile=True) as tab:
            await playing(tab)
            await tab.tap("#pause")
            await tab.wait_for_selector("#theatre[data-phase=paused]")
            await tab.tap('#keys [data-key="left"]')
            await so(tab, "document.getElementById('toasts').textContent.includes('“Go on”')")

    run(body)
