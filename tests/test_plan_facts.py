"""The tables that plans stand on: whole, dated, sourced, and open to a user's own numbers."""

import pytest

from sorano.errors import RequestError
from sorano.plan.facts import TABLES, TAGS, load_facts, number
from sorano.plan.hardware import find_device, inference_shares, training_share


def test_every_row_says_how_it_is_known_since_when_and_by_whom():
    facts = load_facts()
    for table in TABLES:
        assert facts.table(table)
        for row in facts.table(table):
            assert row["tag"] in TAGS and row["date"], (table, row["name"])
            assert row["source"], (table, row["name"])


def test_constants_lie_within_their_bounds():
    facts = load_facts()
    for row in facts.table("constants"):
        fact = facts.constant(row["name"])
        assert 0 <= fact.low <= fact.value <= fact.high, fact
        assert [fact.at(case) for case in ("low", "default", "high")] == [fact.low, fact.value, fact.high]


def test_every_device_has_shares_for_making_and_for_training():
    facts = load_facts()
    for row in facts.table("devices"):
        device = find_device(facts, row["name"])
        assert device.memory_bytes > 0 and device.bytes_per_second > 0
        assert 0 < inference_shares(facts, device).linear.value < 1
        assert 0 < training_share(facts, device).value < 1


@pytest.mark.parametrize("name", ["h100", "H100 SXM", "h100_sxm", "rtx-4090", "RTX 4090", "Rtx4090"])
def test_devices_are_found_as_people_write_them(name):
    assert find_device(load_facts(), name).name in ("h100", "rtx4090")


def test_an_unknown_device_names_the_nearest():
    with pytest.raises(RequestError, match="no device 'h1000'") as caught:
        find_device(load_facts(), "h1000")
    assert "h100" in str(caught.value.hint)


def test_an_unknown_stack_names_those_that_were_measured():
    facts = load_facts()
    with pytest.raises(RequestError, match="fa9") as caught:
        inference_shares(facts, find_device(facts, "h100"), "fa9")
    assert "fa3" in str(caught.value.hint)


def test_a_users_file_overrides_rows_by_name(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('[devices.h100]\nusd_h = 1.5\nsource = "our contract"\n[constants.goodput]\nvalue = 0.8\n')
    facts = load_facts(file)
    price = find_device(facts, "h100").price
    assert (price.value, price.low, price.high, price.tag, price.source) == (1.5, 1.5, 5.0, "U", "our contract")
    assert facts.constant("goodput").value == 0.8 == facts.constant("goodput").low
    assert load_facts().constant("goodput").value == 0.95  # and nobody else's


def test_a_users_file_may_add_a_device(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[devices.x1]\ntitle = "X1"\nfamily = "h100"\nbf16_tflops = 500\nmemory_gb = 64\nbandwidth_gb_s = 2000\n'
    )
    device = find_device(load_facts(file), "x1")
    assert (device.flops_per_second, device.memory_bytes, device.price) == (5e14, 64 * 10**9, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[devices.h100]\nusd_h = ", "not TOML"),
        ("[gadgets.h100]\nusd_h = 1\n", "line 1.*gadgets"),
        ("[constants.goodput]\n\nvallue = 1\n", "line 3.*vallue"),
        ('[constants.goodput]\nvalue = "most"\n', "line 2.*number was expected"),
        ("[constants]\ngoodput = 3\n", "line 2"),
    ],
)
def test_a_users_file_that_does_not_parse_is_said_with_its_line(tmp_path, text, said):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(RequestError, match=f"mine.toml.*{said}|mine.toml is {said}"):
        load_facts(file)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(RequestError, match="cannot be read"):
        load_facts(tmp_path / "none.toml")


def test_an_unknown_row_names_the_nearest():
    with pytest.raises(RequestError) as caught:
        load_facts().constant("goodputt")
    assert "goodput" in str(caught.value.hint)
    with pytest.raises(RequestError, match="has no usd_h"):
        number(load_facts().row("devices", "h20"), "usd_h", "devices")
