"""Draws a person who raises the own left hand, as a video. Runs in MediaPipe's environment: `drawn_signer.py FILE`.

With `turned` after the file, as a phone that is held upright stores it: frames on their side, and in the file's header by how
much they are to be turned.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SKIN, CLOTH, DARK = (140, 170, 225), (120, 60, 40), (30, 40, 60)
FINGERS = ((-26, -6, 40), (-15, -25, 62), (-5, -28, 70), (6, -28, 67), (16, -24, 56))  # base x and y, length; first the thumb
FRAMES = 8


def picture(raised: float) -> Any:
    """A frame, `[480, 480, 3]`. `raised`: from 0 to 1."""
    frame = np.full((480, 480, 3), 188, np.uint8)
    cv2.fillPoly(frame, [np.array([(150, 230), (330, 230), (350, 480), (130, 480)])], CLOTH)
    cv2.rectangle(frame, (222, 180), (258, 235), SKIN, -1)
    wrist = (int(350 - 15 * raised), int(330 - 50 * raised))
    for shoulder, elbow, hand in (((325, 245), (370, 360), wrist), ((155, 245), (112, 370), (115, 480))):
        cv2.line(frame, shoulder, elbow, CLOTH, 44)
        cv2.line(frame, elbow, hand, CLOTH, 36)
    palm = (wrist[0], wrist[1] - 25)
    cv2.ellipse(frame, palm, (22, 28), 0, 0, 360, SKIN, -1)
    for x, y, length in FINGERS:
        tip = (int(palm[0] + 1.3 * x), palm[1] + y - length // 2)
        cv2.line(frame, (palm[0] + x, palm[1] + y), tip, SKIN, 10)
    cv2.ellipse(frame, (240, 120), (58, 76), 0, 0, 360, SKIN, -1)
    cv2.ellipse(frame, (240, 85), (62, 55), 0, 180, 360, DARK, -1)
    for side in (-1, 1):
        cv2.ellipse(frame, (240 + side * 23, 112), (11, 6), 0, 0, 360, (255, 255, 255), -1)
        cv2.circle(frame, (240 + side * 23, 112), 5, DARK, -1)
        cv2.line(frame, (240 + side * 12, 98), (240 + side * 34, 96), DARK, 4)
    cv2.line(frame, (240, 115), (236, 140), (110, 140, 195), 4)
    cv2.ellipse(frame, (240, 162), (20, 7), 0, 0, 360, (90, 90, 190), -1)
    return cv2.GaussianBlur(frame, (5, 5), 0)


def main(path: Path, *, turned: bool) -> None:
    """Writes the video."""
    video = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 30, (480, 480))
    for number in range(FRAMES):
        frame = picture(number / FRAMES)
        video.write(cv2.rotate(frame, cv2.ROTATE_90_COUNTERCLOCKWISE) if turned else frame)
    video.release()
    if turned:
        content = bytearray(path.read_bytes())
        matrix = content.index(b"tkhd") + 44  # of ISO/IEC 14496-12, 8.3.2: nine numbers of 16.16 and 2.30 bits
        content[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 480 << 16, 0, 1 << 30)
        path.write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]), turned="turned" in sys.argv[2:])
