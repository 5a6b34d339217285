"""Headless Chromium, driven by the DevTools protocol over a pipe."""

import base64
import dataclasses
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
FLAGS = (
    '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
    '--disable-background-networking', '--disable-component-update', '--disable-sync',
    '--remote-debugging-pipe',
)  # fmt: skip
# The browser reads commands from descriptor 3 and answers on 4; ours have other numbers.
_LAUNCH = """import os, sys
os.dup2(int(sys.argv[1]), 3), os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])"""
_SEEN = """(async () => {
  const pictures = [...document.images];
  await Promise.allSettled(pictures.map(picture => picture.decode()));
  const broken = pictures.filter(each => !(each.complete && each.naturalWidth > 0));
  const {scrollWidth, scrollHeight} = document.scrollingElement;
  return {pictures: pictures.length, broken: broken.map(each => each.alt),
          width: scrollWidth, height: scrollHeight};
})()"""


@dataclasses.dataclass(frozen=True)
class Visit:
    """What happened on a page."""

    complaints: list[str]  # console errors and warnings, exceptions
    requests: list[str]  # all that was asked for, the page itself first
    pictures: int
    broken: list[str]  # alternative texts of pictures that are not shown
    width: int  # of the whole content, in CSS pixels
    height: int
    screenshot: bytes  # of the whole content, PNG


def find() -> str | None:
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with an empty profile; no wait is longer than `patience` seconds."""

    def __init__(self, patience: float = 60):
        self._patience, self._number, self._unread = patience, 0, b''
        self._events: list[dict] = []
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        launch = [sys.executable, '-c', _LAUNCH, str(commands), str(answers)]
        self._process = subprocess.Popen(
            [*launch, find(), *FLAGS, f'--user-data-dir={self._profile.name}', 'about:blank'],
            pass_fds=(commands, answers),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(commands)
        os.close(answers)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(self._patience)
        os.close(self._commands)
        os.close(self._answers)
        self._profile.cleanup()

    def visit(self, url: str, width: int, mobile: bool = False) -> Visit:
        """Opens a page in a tab of its own, as a reader who prefers dark pages."""
        target = self._send('Target.createTarget', url='about:blank')['targetId']
        tab = self._send('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self._send(f'{domain}.enable', tab)
        screen = {'width': width, 'height': 800, 'deviceScaleFactor': 1 + mobile, 'mobile': mobile}
        self._send('Emulation.setDeviceMetricsOverride', tab, **screen)
        dark = {'name': 'prefers-color-scheme', 'value': 'dark'}
        self._send('Emulation.setEmulatedMedia', tab, features=[dark])
        self._send('Page.setLifecycleEventsEnabled', tab, enabled=True)
        self._events.clear()
        loader = self._send('Page.navigate', tab, url=url)['loaderId']
        self._wait_for('Page.lifecycleEvent', name='load', loaderId=loader)
        asked = {'expression': _SEEN, 'awaitPromise': True, 'returnByValue': True}
        seen = self._send('Runtime.evaluate', tab, **asked)['result']['value']
        clip = {'x': 0, 'y': 0, 'width': width, 'height': seen['height'], 'scale': 1}
        shot = {'clip': clip, 'captureBeyondViewport': True}
        shown = base64.b64decode(self._send('Page.captureScreenshot', tab, **shot)['data'])
        self._send('Target.closeTarget', targetId=target)
        complaints = [text for event in self._events if (text := _complaint(event))]
        sent = [e['params'] for e in self._events if e['method'] == 'Network.requestWillBeSent']
        return Visit(
            complaints, [each['request']['url'] for each in sent], **seen, screenshot=shown
        )

    def _send(self, method: str, tab: str = '', **params) -> dict:
        self._number += 1
        command = {'id': self._number, 'method': method, 'params': params}
        command |= {'sessionId': tab} if tab else {}
        os.write(self._commands, json.dumps(command).encode() + b'\0')
        deadline = time.monotonic() + self._patience
        while (message := self._read(deadline)).get('id') != self._number:
            self._events.append(message)
        if 'error' in message:
            raise RuntimeError(f'{method}: {message["error"]}')
        return message['result']

    def _wait_for(self, method: str, **params) -> None:
        deadline = time.monotonic() + self._patience
        while not any(
            event['method'] == method and params.items() <= event['params'].items()
            for event in self._events
        ):
            self._events.append(self._read(deadline))

    def _read(self, deadline: float) -> dict:
        while b'\0' not in self._unread:
            if not select.select([self._answers], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError('the browser does not answer')
            if not (more := os.read(self._answers, 1 << 20)):
                raise ConnectionError('the browser has ended')
            self._unread += more
        message, _, self._unread = self._unread.partition(b'\0')
        return json.loads(message)


def _complaint(event: dict) -> str:
    params = event['params']
    match event['method']:
        case 'Runtime.exceptionThrown':
            return params['exceptionDetails']['text']
        case 'Log.entryAdded' if params['entry']['level'] in ('error', 'warning'):
            return params['entry']['text']
        case 'Runtime.consoleAPICalled' if params['type'] in ('error', 'warning', 'assert'):
            return ' '.join(str(arg.get('value', arg)) for arg in params['args'])
    return ''
