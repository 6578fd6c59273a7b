;; A handler that looks around in its WASI. `check` answers one finding whose span is what it saw: a random number, the
;; time plus the variables, the directories it was given. `apply` opens the step's text in the first directory.
(module
  (import "wasi:clocks/monotonic-clock@0.2.0" "now" (func $now (result i64)))
  (import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration" (func $subscribe (param i64) (result i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:random/random@0.2.0" "get-random-u64" (func $random (result i64)))
  (import "wasi:cli/environment@0.2.0" "get-environment" (func $environment (param i32)))
  (import "wasi:filesystem/preopens@0.2.0" "get-directories" (func $directories (param i32)))
  (import "wasi:filesystem/types@0.2.0" "[method]descriptor.open-at"
    (func $open_at (param i32 i32 i32 i32 i32 i32 i32)))
  (import "cofferdam:fs/root@0.1.0" "[resource-drop]rootfs" (func $drop_root (param i32)))
  (memory (export "memory") 4)
  (global $free (mut i32) (i32.const 65536))
  (data (i32.const 1024) "{PLANNED}")

  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  (func (export "cofferdam:instruction/handler@0.1.0#check") (param i32) (result i32)
    ;; An hour's sleep.
    (call $block (call $subscribe (i64.const 3600000000000)))
    ;; The finding is at 4096, 52 bytes: its span's presence at 20, the four numbers behind it.
    (i32.store8 (i32.const 4116) (i32.const 1))
    (i64.store (i32.const 4120) (call $random))
    (call $environment (i32.const 3072))
    (call $directories (i32.const 3088))
    (i32.store (i32.const 4128) (i32.add (i32.wrap_i64 (call $now)) (i32.load (i32.const 3076))))
    (i32.store (i32.const 4132) (i32.load (i32.const 3092)))
    (i32.store (i32.const 2048) (i32.const 4096))
    (i32.store (i32.const 2052) (i32.const 1))
    (i32.const 2048))

  (func (export "cofferdam:instruction/handler@0.1.0#plan") (param i32) (result i32)
    (i32.const 1024))

  (func (export "cofferdam:instruction/handler@0.1.0#apply") (param $in i32) (result i32)
    (call $directories (i32.const 3088))
    (if (i32.eqz (i32.load (i32.const 3092))) (then unreachable))
    (call $open_at (i32.load (i32.load (i32.const 3088))) (i32.const 1)
      (i32.load offset=16 (local.get $in)) (i32.load offset=20 (local.get $in))
      (i32.const 0) (i32.const 1) (i32.const 3072))
    (call $drop_root (i32.load offset=116 (local.get $in)))
    (i64.store (i32.const 2048) (i64.const 0))
    (i64.store (i32.const 2056) (i64.const 0))
    (if (i32.load8_u (i32.const 3072))
      (then
        (i32.store8 (i32.const 2048) (i32.const 1))
        (i32.store8 (i32.const 2052) (i32.const 1))))
    (i32.const 2048)))
