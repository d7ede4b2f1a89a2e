"""The tables that plans stand on: whole, dated, sourced, and open to a user's own numbers."""

import pytest

from sorano.errors import RequestError
from sorano.plan.assumptions import TABLES, TAGS, addresses, find_name, load_assumptions, number
from sorano.plan.hardware import find_device, inference_shares, training_share


def test_every_row_says_how_it_is_known_since_when_and_by_whom():
    assumptions = load_assumptions()
    for table in TABLES:
        assert assumptions.table(table)
        for row in assumptions.table(table):
            assert row["tag"] in TAGS and row["date"], (table, row["name"])
            assert row["source"], (table, row["name"])


def test_constants_lie_within_their_bounds():
    assumptions = load_assumptions()
    for row in assumptions.table("constants"):
        fact = assumptions.constant(row["name"])
        assert 0 <= fact.low <= fact.value <= fact.high, fact
        assert [fact.at(case) for case in ("low", "default", "high")] == [fact.low, fact.value, fact.high]


def test_every_device_has_shares_for_making_and_for_training():
    assumptions = load_assumptions()
    for row in assumptions.table("devices"):
        device = find_device(assumptions, row["name"], rated=False)
        assert device.memory_bytes > 0 and device.bytes_per_second > 0
        assert 0 < inference_shares(assumptions, device).linear.value < 1
        assert 0 < training_share(assumptions, device).value < 1


@pytest.mark.parametrize("name", ["h100", "H100 SXM", "h100_sxm", "rtx-4090", "RTX 4090", "Rtx4090"])
def test_devices_are_found_as_people_write_them(name):
    assert find_device(load_assumptions(), name).name in ("h100", "rtx4090")


def test_an_unknown_device_names_the_nearest():
    with pytest.raises(RequestError, match="no device 'h1000'") as caught:
        find_device(load_assumptions(), "h1000")
    assert "h100" in str(caught.value.hint)


def test_an_unknown_stack_names_those_that_were_measured():
    assumptions = load_assumptions()
    with pytest.raises(RequestError, match="fa9") as caught:
        inference_shares(assumptions, find_device(assumptions, "h100"), "fa9")
    assert "fa3" in str(caught.value.hint)


def test_a_users_file_overrides_rows_by_name(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[devices.h100]\nusd_h = 1.5\nsource = "our contract"\n[constants.goodput]\nvalue = 0.8\n')
    assumptions = load_assumptions(file)
    price = find_device(assumptions, "h100").price
    assert (price.value, price.low, price.high, price.tag, price.source) == (1.5, 1.5, 1.5, "U", "our contract")
    assert assumptions.constant("goodput").value == 0.8 == assumptions.constant("goodput").low
    assert load_assumptions().constant("goodput").value == 0.95  # and nobody else's


def test_one_number_of_a_user_is_that_number_and_leaves_the_rest_as_it_was_known(tmp_path):
    file, ours = tmp_path / "mine.toml", load_assumptions().row("devices", "h100")
    file.write_text('[devices.H100]\nusd_h = 2.1\nusd_h_high = 3\n[devices."rtx-4090"]\nwatts = 300\n')
    assumptions = load_assumptions(file)
    price = find_device(assumptions, "h100").price
    assert (price.low, price.value, price.high, price.source) == (2.1, 2.1, 3.0, "your mine.toml") and price.date
    mine = assumptions.row("devices", "h100")
    assert [mine[key] for key in ("tag", "date", "source")] == [ours[key] for key in ("tag", "date", "source")]
    assert len(assumptions.table("devices")) == len(
        load_assumptions().table("devices")
    )  # nothing beside what there was
    limited = find_device(assumptions, "rtx4090")
    assert limited.watts == 300 and "watts: your mine.toml" in limited.source and limited.price.tag == "S"


def test_rows_with_points_in_their_names_need_no_quotes(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[constants.grid.france]\nvalue = 20\n[constants.infer.h100]\nvalue = 0.4\n")
    assumptions = load_assumptions(file)
    assert assumptions.constant("grid.france").high == 20 and assumptions.constant("infer.h100").low == 0.4


def test_prices_say_where_they_are_from_beside_what_the_device_is(tmp_path):
    assumptions = load_assumptions()
    for row in assumptions.table("devices"):
        assert bool(row["usd_h"]) == bool(row["price_source"]) == bool(row["price_date"]) == bool(row["price_tag"])
    h100 = find_device(assumptions, "h100")
    assert (h100.tag, h100.price.tag) == ("P", "S") and h100.price.source != h100.source


def test_no_share_is_above_the_best_product_that_was_measured():
    assumptions = load_assumptions()
    for row in assumptions.table("devices"):
        if row["matmul_tflops"]:
            best = number(row, "matmul_tflops", "devices") / number(row, "bf16_tflops", "devices")
            shares = inference_shares(assumptions, find_device(assumptions, row["name"]))
            assert max(shares.attention.value, shares.linear.value) <= best, row["name"]


def test_a_users_file_may_add_a_device(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[devices.x1]\ntitle = "X1"\nfamily = "h100"\nbf16_tflops = 500\nmemory_gb = 64\nbandwidth_gb_s = 2000\n'
    )
    device = find_device(load_assumptions(file), "x1")
    assert (device.flops_per_second, device.memory_bytes, device.price) == (5e14, 64 * 10**9, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[devices.h100]\nusd_h = ", "not TOML"),
        ("[gadgets.h100]\nusd_h = 1\n", "line 1.*gadgets"),
        ("[constants.goodput]\n\nvallue = 1\n", "line 3.*vallue"),
        ('[constants.goodput]\nvalue = "most"\n', "line 2.*number was expected"),
        ("[constants]\ngoodput = 3\n", "line 2"),
        ("[devices.h100]\nusd_h = -5\n", "line 2: usd_h is -5"),
        ("[devices.h100]\nusd_h = nan\n", "line 2: usd_h is nan"),
        ("[devices.h100]\nusd_h = inf\n", "line 2: usd_h is inf"),
        ('[devices.h100]\nusd_h = "cheap"\n', "line 2: usd_h is 'cheap', and a number"),
        ("[devices.h100]\nbf16_tflops = 0\n", "line 2: bf16_tflops is 0"),
        ("[devices.h100]\nmemory_gb = 0\n", "line 2: memory_gb is 0"),
        ("[devices.h100]\nusd_h = 2\nusd_h_low = 3\n", "line 3: usd_h_low is 3"),
        ('[devices.h100]\nfamily = "abacus"\n', "line 2: no constant 'infer.abacus'"),
        ("[constants.goodput]\nvalue = 0\n", "line 2: value is 0"),
        ("[constants.goodput]\nvalue = 5\n", "line 2: value of goodput is 5"),
        ("[constants.goodput]\nhigh = 5\n", "line 2: high of goodput is 5"),
        ("[constants.goodput]\nlow = 0.97\n", "line 2: low is 0.97"),
        ("\n[constants.goodputt]\nvalue = 0.5\n", "line 2: constants has no row 'goodputt'"),
        ("[devices.mine]\nmemory_gb = 8\n", "line 1: devices has no row 'mine', and a new one needs family"),
        ("[models.movie-gen-30b]\nlayers = 1.5\n", "line 2: layers is 1.5, and must be a whole number"),
        ("[prices.mine]\nusd_s = 0\n", "line 2: usd_s is 0"),
        ('[models.movie-gen-30b]\nkind = "gan"\n', "line 2: kind is 'gan'"),
        ("[runs.gpt-3-175b]\nflops_reported = -1\n", "line 2: flops_reported is -1"),
        ('[laws."hunyuanvideo.tokens"]\nfactor = 0\n', "line 2: factor is 0"),
    ],
)
def test_a_users_file_that_does_not_parse_is_said_with_its_line(tmp_path, text, said):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(RequestError, match=f"mine.toml.*{said}|mine.toml is {said}"):
        load_assumptions(file)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        load_assumptions(tmp_path / "none.toml")


def test_an_unknown_row_names_the_nearest():
    with pytest.raises(RequestError) as caught:
        load_assumptions().constant("goodputt")
    assert "goodput" in str(caught.value.hint)
    with pytest.raises(RequestError, match="has no usd_h"):
        number(load_assumptions().row("devices", "h20"), "usd_h", "devices")


NOWHERE = {  # what no page says: practice, notes, the press of a year, and what is derived from rows beside it
    "train.a100", "goodput.palm-540b", "goodput.llama-3.1-405b", "energy.facility", "rnd.factor", "memory.nccl_gb",
    "claim.gpt3.usd_guosheng", "claim.gpt3.usd_lambda", "claim.gpt3.usd_press", "llama-2-70b", "veo-3.1-conflict",
    "mova-audio-video-360p-15-d-360p-filtered-7-d-720p-20-d",
}  # fmt: skip


def test_every_source_has_an_address():
    assumptions = load_assumptions()
    without = [
        row["name"]
        for table in TABLES
        for row in assumptions.table(table)
        if row["tag"] in ("P", "S", "D") and not addresses(row["source"]) and not row["name"].startswith("own-")
    ]
    assert set(without) <= NOWHERE, without
    assert addresses("arXiv:2412.03603 section 4.4") == ("https://arxiv.org/abs/2412.03603",)
    assert addresses("hmc-tech.com (32-core, runs.csv)") == ("https://hmc-tech.com",)
    assert addresses("https://www.nvidia.com/en-us/data-center/l4/") == (
        "https://www.nvidia.com/en-us/data-center/l4/",
    )
    assert assumptions.constant("train.h100").to_dict()["addresses"]


@pytest.mark.parametrize(
    ("name", "memory_gb"),
    [("RTX 3060", 12), ("rtx-a6000", 48), ("T4", 16), ("L4", 24), ("M3 Max", 128), ("iPhone 15 Pro", 8),
     ("iphone 16 pro", 8), ("iPhone17Pro", 12), ("Pixel 9 Pro", 16), ("Snapdragon 8 Gen 3", 12)],
)  # fmt: skip
def test_devices_that_people_have_are_found_by_their_names(name, memory_gb):
    assert find_device(load_assumptions(), name, rated=False).memory_bytes == memory_gb * 10**9


@pytest.mark.parametrize(
    ("name", "near"),
    [("RTX 3070", "rtx3060"), ("iPhone 18 Pro", "iphone-17-pro"), ("M3 Mx", "m3-max"), ("a600", "a6000")],
)
def test_the_nearest_device_is_of_the_same_kind(name, near):
    with pytest.raises(RequestError) as caught:
        find_device(load_assumptions(), name)
    assert near.rstrip("0123456789") in caught.value.hint


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("A6000", "rtx-a6000"),
        ("4090", "rtx4090"),
        ("NVIDIA H100", "h100"),
        ("Apple M3 Max", "m3-max"),
        ("Tesla T4", "t4"),
    ],
)
def test_a_device_is_found_as_people_call_it(name, device):
    assert find_name(load_assumptions().rows["devices"], name) == device


@pytest.mark.parametrize("name", ["h1000", "100", "max", "rtx"])
def test_no_other_device_is_taken_for_one_that_is_not_known(name):
    rows = load_assumptions().rows["devices"]
    assert find_name(rows, name) not in rows
