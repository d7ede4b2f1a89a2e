"""What a training run will do, before it does it: every value that follows from a recipe, and why."""

from sorano.train import recipes

recipe = recipes.find("cpu")
for name, value, why in recipes.describe(recipe):
    print(f"{name:<18} {value:<44} {why}".rstrip())

# To run it, for about two hours on two cores:
#     recipes.run(recipe, Path("runs/world"))
# or  sorano train world --recipe cpu -o runs/world
