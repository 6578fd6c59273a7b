//! What a command sees and does.

use crate::world::World;

/// A name and what it does.
pub type Test = (&'static str, fn(&World));

/// All.
pub const TESTS: &[Test] = &[
    ("the_command_is_root_in_its_tree", the_command_is_root_in_its_tree),
    ("owners_and_modes_are_seen_by_every_call", owners_and_modes_are_seen_by_every_call),
    ("a_user_is_held_to_its_rights", a_user_is_held_to_its_rights),
    ("paths_stay_in_the_tree", paths_stay_in_the_tree),
];

fn the_command_is_root_in_its_tree(world: &World) {
    let said = world.output("id -u; pwd; cd /srv; pwd; cat base; ls /; readlink /proc/self/exe; hostname");
    assert_eq!(said, "0\n/\n/srv\nfrom the base\nbin\ndev\netc\nproc\nroot\nsrv\nsys\ntmp\n/bin/busybox\nbuilder\n");
}

fn owners_and_modes_are_seen_by_every_call(world: &World) {
    let step = world.step(
        "cd /srv; touch f; chown 33:44 f; chmod 4711 f; stat -c '%u %g %a' f; ln f g; stat -c '%u %g %a %h' g; \
         mv g h; stat -c '%u' h; mkdir -m 1777 d; stat -c %a d; mknod c c 5 1; stat -c '%F %t %T' c; \
         ln -s f l; chown -h 7 l; stat -c %u l; cp -a f copy; stat -c '%u %g %a' copy",
    );
    let said = world.output_of(&step);
    assert_eq!(said, "33 44 4711\n33 44 4711 2\n33\n1777\ncharacter special file 5 1\n7\n33 44 4711\n");
    assert_eq!(step.recorded("srv/h"), Some((33, 44, 0o4711)));
}

fn a_user_is_held_to_its_rights(world: &World) {
    let mut step = world.step(
        "id -u; touch /etc/x 2>/dev/null && echo wrote; touch /tmp/mine; stat -c '%u %g' /tmp/mine; \
         chown 0 /tmp/mine 2>/dev/null && echo gave; cat /etc/passwd >/dev/null && echo read",
    );
    step.request.user = cofferdam_exec::ResolvedUser { uid: 33, gid: 33, groups: vec![], home: "/srv".into() };
    assert_eq!(world.output_of(&step), "33\n33 33\nread\n");
}

fn paths_stay_in_the_tree(world: &World) {
    let said = world.output(
        "cd /; cat ../../../etc/group | head -1; ln -s /etc /tmp/e; cat /tmp/e/group | head -1; \
         ls /proc/1 2>/dev/null && echo others; cat /proc/self/root/etc/group | head -1; ls /../../bin/busybox; \
         echo hi | cat /dev/stdin; cat /dev/null; echo x > /dev/null; echo done",
    );
    assert_eq!(said, "root:x:0:\nroot:x:0:\nroot:x:0:\n/../../bin/busybox\nhi\ndone\n");
}
