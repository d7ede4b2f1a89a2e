"""What will it cost? Plans of jobs for machines that are not here: no GPU, no weights, no network, no torch."""

from sorano.plan import plan_generate, plan_train

for device in ("rtx4090", "h100"):
    clip = plan_generate("wan2.1-t2v-1.3b", device=device)
    seconds = clip["seconds"]  # low and high: if every constant behind it took its low or its high value
    print(f"{device}: {seconds.default:.0f} s ({seconds.low:.0f} to {seconds.high:.0f})")
    print(f"  {clip.summary}")

# Each row says how it came about; `assumptions` are the constants that it stands on, with their sources.
for row in clip.rows[:5]:
    print(f"  {row.name}: {row.why}")
for one in clip.assumptions[:3]:
    print(f"  {one.name}: {one.source}")

train = plan_train("movie-gen-30b", device="h200", count=1024)
print(train.summary)
