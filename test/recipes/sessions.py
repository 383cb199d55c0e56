"""sessions.py: for recipes.test: the recipe of that name, with sessions that end after a second"""
import threading
import time

import recipe  # the recipe, by the path

recipe.IDLE = 3600
keeper = recipe.connect()
name = recipe.log_in(keeper, "ann")
other = recipe.log_in(keeper, "bob")
assert name != other and recipe.count(keeper) == 2
assert recipe.use(keeper, "nobody") is None
assert recipe.put(keeper, "nobody", "cart", []) is False


def work(field):
    db = recipe.connect()
    for i in range(100):
        assert recipe.put(db, name, field, {"n": i + 1})
        assert recipe.use(db, name)["user"] == "ann"


threads = [threading.Thread(target=work, args=(f"field{i}",)) for i in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
data = recipe.use(keeper, name)
assert data == {"user": "ann", **{f"field{i}": {"n": 100} for i in range(4)}}, data  # no change of a field was lost

# Used again and again it lives on; not used, or only changed, it ends. On a busy machine a use may come too late: then
# all lives longer.
recipe.log_out(keeper, other)
recipe.IDLE, late = 1, True
while late:
    late = False
    first, other = recipe.log_in(keeper, "ann"), recipe.log_in(keeper, "bob")
    last = time.monotonic()
    assert recipe.use(keeper, first) and recipe.use(keeper, other)
    for _ in range(4):
        time.sleep(0.4 * recipe.IDLE)
        now = time.monotonic()
        alive = recipe.use(keeper, first) is not None
        late = late or not alive and time.monotonic() - last > 0.9 * recipe.IDLE
        assert alive or late
        last = now
        recipe.put(keeper, other, "field", 1)
    assert recipe.use(keeper, other) is None
    recipe.log_out(keeper, first)
    recipe.IDLE *= 2
assert recipe.count(keeper) == 1
recipe.log_out(keeper, name)
assert recipe.use(keeper, name) is None and recipe.count(keeper) == 0
print("good")
