"""A program that finds MediaPipe Holistic landmarks in videos. It runs in an environment of its own, see `video_setup`.

Nothing else of the project is there: this file imports NumPy, OpenCV and MediaPipe alone, and runs in Python 3.9.

    stdin   one JSON object per line: {"video": path, "mirrored": whether the picture is, "max_frames": N}
    stdout  {"ready": true} once, then per video {"frames": T} and T x 543 x 3 float32 numbers, NaN = not detected,
            or {"error": {"what": ..., "got": ..., "expected": ...}}
    stderr  a file that can be read: the log of OpenCV, FFmpeg and MediaPipe

The settings are the defaults of the Holistic solution: tracking from frame to frame, model complexity 1, smoothed landmarks,
confidences of 0.5, 468 face points without irises. Kaggle's data were made by Holistic too; their settings are not published.

Source: Holistic of mediapipe/python/solutions/holistic.py in mediapipe 0.10.21.
"""

# T frames, J landmarks (543), C coordinates (3)

from __future__ import annotations

import json
import os
import queue
import re
import sys
import threading
import types
from typing import Any

sys.modules["matplotlib"] = sys.modules["matplotlib.pyplot"] = types.ModuleType("matplotlib")  # MediaPipe's drawings need it
import cv2  # noqa: E402
import mediapipe.python.solutions.holistic as mediapipe_holistic  # noqa: E402
import numpy as np  # noqa: E402

_PARTS = {"face": 0, "left_hand": 468, "pose": 489, "right_hand": 522}  # first landmark of each, as in data_utils.landmarks
_NUM_LANDMARKS = 543
_COMPLAINT = re.compile(r"^\[[\w,]+ @ 0x[0-9a-f]+\] (.*)", re.MULTILINE)
"""A line in which FFmpeg, with which OpenCV reads videos, says what is wrong with a file."""


_DECODABLE = "a video that OpenCV reads, such as H.264 in .mp4: ffmpeg -i OLD -c:v libx264 NEW.mp4"


class Unreadable(Exception):
    """A video cannot be read: what is wrong, what was found, and what was expected."""

    def __init__(self, what: str, got: str, expected: str | None = None) -> None:
        super().__init__(what)
        self.fields = {"what": what, "got": got, "expected": expected}


def landmarks_of(path: str, mirrored: bool, max_frames: int) -> np.ndarray:
    """The landmarks of a video's frames, float32 `[T, 543, 3]`.

    The pictures of a mirrored video are mirrored back: else the left hand
    would be found as the right one.

    Raises:
        Unreadable: the file is no video, is damaged or too long.
    """
    log_start = os.lseek(2, 0, os.SEEK_END)
    video = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    if not video.isOpened():
        what = "the file is not a video, has no picture or is damaged"
        raise Unreadable(what, _complaint(log_start) or "no frame", _DECODABLE)
    video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)  # phones store how the camera was held beside the frames
    declared = video.get(cv2.CAP_PROP_FRAME_COUNT)  # an estimate, and negative for pictures
    if declared > max_frames and _is_longer(path, max_frames):
        raise Unreadable("the video is far too long for one sign", f"more than {max_frames} frames")
    frames: list[np.ndarray] = []
    with mediapipe_holistic.Holistic(static_image_mode=False, model_complexity=1, refine_face_landmarks=False) as holistic:
        while True:
            found, picture = video.read()
            if not found:
                break
            if len(frames) == max_frames:
                raise Unreadable("the video is far too long for one sign", f"more than {max_frames} frames")
            picture = cv2.flip(picture, 1) if mirrored else picture
            frames.append(_landmarks(holistic.process(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))))
    complaint = _complaint(log_start)
    if complaint and len(frames) < declared:  # without one, a trimmed video: phones keep the frames that are not shown
        what = "the video is damaged or cut short" if frames else "the video is damaged or of a kind that OpenCV cannot decode"
        raise Unreadable(what, f"{len(frames)} of {declared:.0f} frames; {complaint}", None if frames else _DECODABLE)
    if not frames:
        raise Unreadable("the video has no frame", "0 frames")
    if len(frames) == 1 and declared < 1:
        raise Unreadable("the file is a picture, not a video", "1 frame")
    return np.stack(frames)


def _landmarks(result: Any) -> np.ndarray:
    """The landmarks of one frame, float32 `[543, 3]`."""
    landmarks_JC = np.full((_NUM_LANDMARKS, 3), np.nan, np.float32)
    for part, start in _PARTS.items():
        found = getattr(result, f"{part}_landmarks")
        if found is not None:
            landmarks_JC[start : start + len(found.landmark)] = [(point.x, point.y, point.z) for point in found.landmark]
    return landmarks_JC


def _is_longer(path: str, max_frames: int) -> bool:
    """Whether a video has more frames. Counts them, which is far faster than finding landmarks."""
    video = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    return all(video.grab() for _ in range(max_frames + 1))


def _complaint(log_start: int) -> str:
    """What FFmpeg first complained of since the log had a certain length; empty if of nothing."""
    os.lseek(2, log_start, os.SEEK_SET)  # reading to the end leaves the position where it was
    text = b""
    while block := os.read(2, 1 << 16):
        text += block
    found = _COMPLAINT.search(text.decode("utf-8", "replace"))
    return found[1] if found else ""


def main() -> None:
    """Answers one request after another until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints
    requests: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_read_requests, args=(requests,), daemon=True).start()
    answers.write(b'{"ready": true}\n')
    answers.flush()
    while True:
        request = json.loads(requests.get())
        try:
            landmarks_TJC = landmarks_of(request["video"], request["mirrored"], request["max_frames"])
        except Unreadable as error:
            answers.write(json.dumps({"error": error.fields}).encode() + b"\n")
        except Exception as error:  # whatever OpenCV or MediaPipe raises for a strange file
            fields = {"what": "MediaPipe cannot read the video", "got": f"{type(error).__name__}: {error}", "expected": None}
            answers.write(json.dumps({"error": fields}).encode() + b"\n")
        else:
            answers.write(json.dumps({"frames": len(landmarks_TJC)}).encode() + b"\n" + landmarks_TJC.tobytes())
        answers.flush()


def _read_requests(requests: queue.Queue[str]) -> None:
    """Passes on the lines of stdin. At its end, when nobody waits for answers, the process ends at once."""
    for line in sys.stdin:
        requests.put(line)
    os._exit(0)


if __name__ == "__main__":
    main()
