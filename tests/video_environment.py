"""A stand-in for MediaPipe's environment: the project's own program runs in it, with small modules named `cv2` and `mediapipe`.

A video is a JSON file: {"frames": 5, "declared": 5, "complaint": "...", "crash": "always" or "once", "wait": true}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from data_utils.importing import video_setup

CV2 = """
import json, os, signal, sys, time
import numpy as np
CAP_FFMPEG, COLOR_BGR2RGB, CAP_PROP_ORIENTATION_AUTO, CAP_PROP_FRAME_COUNT = 1900, 4, 49, 7
def cvtColor(picture, code):
    return picture
def flip(picture, code):
    return 100 - picture
class VideoCapture:
    def __init__(self, path, backend):
        self.path, self.turned, self.position = path, False, 0
        print("this line goes to stdout")
        os.write(2, b"W0000 a line of a log\\n")
        with open(os.environ["OPENED"], "a") as log:
            log.write(f"{os.getpid()} {os.path.basename(path)}\\n")
        try:
            self.video = json.load(open(path))
        except ValueError:
            self.video = None
            os.write(2, b"[mov,mp4,m4a @ 0x55f3] moov atom not found\\n")
    def isOpened(self):
        return self.video is not None
    def set(self, prop, value):
        self.turned = prop == CAP_PROP_ORIENTATION_AUTO and value == 1
    def get(self, prop):
        return float(self.video.get("declared", self.video["frames"]))
    def grab(self):
        self.position += 1
        return self.position <= self.video["frames"]
    def read(self):
        crash, mark = self.video.get("crash"), self.path + ".crashed"
        if crash == "always" or (crash == "once" and not os.path.exists(mark)):
            open(mark, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        while self.video.get("wait"):
            time.sleep(0.01)
        if not self.grab():
            os.write(2, self.video.get("complaint", "").encode())
            return False, None
        return True, np.full((2, 2, 3), self.position if self.turned else 99, np.uint8)
"""
HOLISTIC = """
from types import SimpleNamespace
def _part(count, x):
    return SimpleNamespace(landmark=[SimpleNamespace(x=x, y=n / 1000, z=0.5) for n in range(count)])
class Holistic:
    def __init__(self, **settings):
        assert settings == {"static_image_mode": False, "model_complexity": 1, "refine_face_landmarks": False}
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def process(self, picture):
        x = picture[0, 0, 0] / 100
        left = _part(21, x) if picture[0, 0, 0] % 2 else None
        return SimpleNamespace(
            face_landmarks=_part(468, x), left_hand_landmarks=left, pose_landmarks=_part(33, x), right_hand_landmarks=None
        )
"""


def make_environment(folder: Path, *, works: bool = True) -> None:
    """Makes it in a folder, so that its Python starts ours with the two modules. Without `works`, MediaPipe is missing."""
    modules = folder / "modules"
    modules.mkdir(parents=True)
    (modules / "cv2.py").write_text(CV2)
    if works:
        package = modules / "mediapipe" / "python" / "solutions"
        package.mkdir(parents=True)
        (package / "holistic.py").write_text(HOLISTIC)
    python = video_setup.interpreter(folder)
    python.parent.mkdir()
    # `-I` would keep Python from finding the modules
    python.write_text(f'#!/bin/sh\nshift\nPYTHONPATH={modules} exec {sys.executable} "$@"\n')
    python.chmod(0o755)


def write_video(path: Path, frames: int = 5, **more: Any) -> None:
    """Writes a video that the stand-in reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"frames": frames, **more}))


def opened() -> list[str]:
    """The processes and names of all videos that were opened, in order: `1234 clip.mp4`."""
    log = Path(os.environ["OPENED"])
    return log.read_text().splitlines() if log.exists() else []
