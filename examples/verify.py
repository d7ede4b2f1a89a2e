"""Where does a video come from? Verify one, and the same one with a single byte changed."""

from pathlib import Path

import sorano

sorano.generate("a blue cube spins on the snow at night", seed=1, draft=True, output="cube.mp4", overwrite=True)

report = sorano.verify("cube.mp4")
print(report.verdict, report.summary)
report.require()  # raises unless VERIFIED: these very bytes, under a key that is trusted here

content = bytearray(Path("cube.mp4").read_bytes())
content[content.index(b"mdat") + 1000] ^= 1  # in the coded picture
Path("changed.mp4").write_bytes(content)

report = sorano.verify("changed.mp4")
print(report.verdict, report.summary)
for one in report.evidence:
    print(f"  {one.about}: {one.found}")
try:
    report.require()
except sorano.TrustError as error:
    print("refused:", error.message)
