"""The commands about members: what they send and print."""

import json

import pytest


def sent(api):
    return [
        (seen.method, seen.target, seen.json if seen.body else None)
        for seen in api.server.requests
    ]


def test_members_are_listed_with_a_star_for_sharers(glance, api):
    image = api.add()
    api.members[image] = [
        {"member_id": "t1", "can_share": False},
        {"member_id": "t2", "can_share": True},
    ]
    done = glance("image-members", "1")
    assert (done.code, done.out) == (0, "t1\nt2 *\n\n(*: Can share image)\n")


def test_members_without_sharers_need_no_legend(glance, api):
    api.members[api.add()] = [{"member_id": "t1", "can_share": False}]
    assert glance("image-members", "1").out == "t1\n"


def test_image_without_members_prints_nothing(glance, api):
    api.add()
    done = glance("image-members", "1")
    assert (done.code, done.out) == (0, "")


def test_members_for_programs(glance, api):
    members = [{"member_id": "t1", "can_share": True}]
    api.members[api.add()] = members
    assert json.loads(glance("image-members", "1", "--format=json").out) == members


def test_images_of_an_unknown_member_for_programs(glance, api):
    api.refuse["GET", "/shared-images/t"] = (404, b"")
    done = glance("member-images", "t", "--format=json")
    assert (done.code, json.loads(done.out)) == (0, [])
    assert done.err == "No images shared with member t\n"


def test_images_of_a_member_are_listed(glance, api):
    api.members["t"] = [{"image_id": 3, "can_share": True}]
    assert glance("member-images", "t").out == "3 *\n\n(*: Can share image)\n"


def test_member_unknown_to_the_server_is_no_failure(glance, api):
    api.refuse["GET", "/shared-images/t"] = (404, b"")
    done = glance("member-images", "t")
    assert (done.code, done.out) == (0, "No images shared with member t\n")


PATH = "/v1/images/1/members"


@pytest.mark.parametrize(
    ("args", "request_sent"),
    [
        (("member-add", "1", "t"), ("PUT", f"{PATH}/t", None)),
        (("member-add", "1", "a/b"), ("PUT", f"{PATH}/a%2Fb", None)),
        (("member-add", "1", ".."), ("PUT", f"{PATH}/%2E%2E", None)),
        (
            ("member-add", "1", "t", "--can-share"),
            ("PUT", f"{PATH}/t", {"member": {"can_share": True}}),
        ),
        (("member-delete", "1", "a b"), ("DELETE", f"{PATH}/a%20b", None)),
        (
            ("members-replace", "1", "t"),
            ("PUT", PATH, [{"member_id": "t", "can_share": False}]),
        ),
        (
            ("members-replace", "1", "t", "--can-share"),
            ("PUT", PATH, [{"member_id": "t", "can_share": True}]),
        ),
    ],
)
def test_change_is_sent_and_nothing_printed(glance, api, args, request_sent):
    api.add()
    done = glance(*args)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert sent(api) == [request_sent]


SHARER = "New member would have been able to further share image."


@pytest.mark.parametrize(
    ("args", "lines"),
    [
        (("member-add", "1", "t"), ['Add "t" to membership of image 1']),
        (
            ("member-add", "1", "t", "--can-share"),
            ['Add "t" to membership of image 1', SHARER],
        ),
        (("member-delete", "1", "t"), ['Remove "t" from the member list of image "1"']),
        (("members-replace", "1", "t"), ['Replace members of image 1 with "t"']),
        (
            ("members-replace", "1", "t", "--can-share"),
            ['Replace members of image 1 with "t"', SHARER],
        ),
    ],
)
def test_dry_run_tells_what_would_be_done(glance, api, args, lines):
    done = glance(*args, "--dry-run")
    assert (done.code, done.lines) == (0, ["Dry run. We would have done the following:", *lines])
    assert not api.server.requests


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("image-members",), "Please specify the ID of the image as the first argument"),
        (("member-images",), "Please specify the ID of the member as the first argument"),
        (("member-add", "1"), "Please specify the image ID and the member name"),
        (("member-delete",), "Please specify the image ID and the member name"),
        (("members-replace", "1"), "Please specify the image ID and the member name"),
    ],
)
def test_missing_argument(glance, args, message):
    done = glance(*args)
    assert (done.code, done.out) == (1, f"{message}\n")


@pytest.mark.parametrize(
    "args",
    [
        ("image-members", "1", "x"),
        ("member-images", "t", "x"),
        ("member-add", "1", "t", "x"),
        ("member-delete", "1", "t", "x"),
        ("members-replace", "1", "t", "x"),
    ],
    ids=lambda args: args[0],
)
def test_surplus_argument_is_refused(glance, api, args):
    done = glance(*args)
    assert (done.code, done.out, api.server.requests) == (1, "", [])
