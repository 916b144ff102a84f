"""What happens to a simulated cluster, at random but from its seed."""

from raftmeta.members import Member
from raftmeta.membership import Addition, Removal
from tests.raftmeta.simulated_cluster import Cluster

MISFORTUNES = (
    *("partition", "one_way", "heal", "weather", "kill", "power", "power_at", "all_power"),
    *("pause", "start", "start", "start", "cut_logs", "wipe"),
)
MEMBER_MISFORTUNES = (*("add", "add", "add", "remove", "remove", "replace", "transfer"),)


def chaos(
    cluster: Cluster, rounds: int, *, wipes: bool = False, members_change: bool = False
) -> None:
    """Misfortune at random, with clients at work all the while."""
    rng = cluster.rng
    for _ in range(rounds):
        cluster.run(rng.uniform(0.02, 0.4))
        for _ in range(rng.randint(0, 4)):
            cluster.write()
        cluster.read()
        if rng.random() < 0.5:
            _misfortune(cluster, wipes=wipes)
        if members_change and rng.random() < 0.4:
            _change_members(cluster)


def _change_members(cluster: Cluster) -> None:
    """An operator at work, who does not look twice before acting."""
    rng = cluster.rng
    member = cluster.members[rng.choice(sorted(cluster.members))]
    kind = rng.choice(MEMBER_MISFORTUNES)
    if kind == "add":
        me = Member(id=member.id, raft=f"{member.id}:1", url=f"http://{member.id}")
        cluster.change(Addition(me))
    elif kind == "remove":
        cluster.change(Removal(member.id))
    elif kind == "replace" and member.removed:
        cluster.wipe(member.id)
    elif kind == "transfer":
        cluster.give_away(rng.choice(("", member.id)))


def _misfortune(cluster: Cluster, *, wipes: bool) -> None:
    rng, network = cluster.rng, cluster.network
    names = sorted(cluster.members)
    name = rng.choice(names)
    kind = rng.choice(MISFORTUNES)
    if kind == "partition":
        side = set(rng.sample(names, rng.randint(1, len(names) - 1)))
        network.cut = {(a, b) for a in names for b in names if (a in side) != (b in side)}
    elif kind == "one_way":
        network.cut.add((name, rng.choice(names)))
    elif kind == "heal":
        network.cut.clear()
    elif kind == "weather":
        network.loss = rng.choice((0.0, 0.0, 0.05, 0.3))
        network.doubling = rng.choice((0.0, 0.2))
        network.delay_max_s = rng.choice((0.001, 0.01, 0.05, 0.3))
    elif kind == "kill":
        cluster.kill(name)
    elif kind == "power":
        cluster.cut_power(name)
    elif kind == "power_at":
        disk = cluster.members[name].disk
        disk.cut_after = disk.operation_count + rng.randint(0, 12)
    elif kind == "all_power":
        for each in names:
            if not cluster.members[each].wiped:
                cluster.cut_power(each)
    elif kind == "pause":
        cluster.members[name].paused_until_s = max(
            cluster.members[name].paused_until_s, network.now_s + rng.uniform(0.1, 3.0)
        )
    elif kind == "start":
        for each in names:
            cluster.start(each)
    elif kind == "cut_logs":
        cluster.cut_logs()
    elif kind == "wipe" and wipes and not any(m.wiped for m in cluster.members.values()):
        cluster.wipe(name)
