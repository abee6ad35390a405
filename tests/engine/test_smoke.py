import time
from support.world import *
def test_it(world, forks, unbroken, tmp_path):
    for i in range(3):
        d = tmp_path / str(i); d.mkdir()
        t = time.time()
        done = forks.run("train", world.recipe, "--device", "cpu", cwd=d)
        print(time.time() - t, done)
        print(differences(outcome(unbroken), outcome(d/"run")))
    assert 0
