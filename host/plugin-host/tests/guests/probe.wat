;; A handler of instructions written by hand, for what no SDK would do. The canonical ABI (component model,
;; CanonicalABI.md) fixes the offsets; they follow from wit/instruction/instruction.wit.
;;
;; `apply` does what the first byte of the step's text says, on the path that follows it:
;;   o  opens the path in the first tree        s  asks for its metadata there      d  lists it
;;   r  reads the path of the root file system  p  puts a symlink `l` to it there and reads that
;;   x  calls the executor if it was handed one, and traps if not
;; It answers with the host's denial, or with a finding without a text for every other failure.
(module
  (import "cofferdam:fs/trees@0.1.0" "[method]tree.open" (func $open (param i32 i32 i32 i32)))
  (import "cofferdam:fs/trees@0.1.0" "[method]tree.stat" (func $stat (param i32 i32 i32 i32 i32)))
  (import "cofferdam:fs/trees@0.1.0" "[method]tree.read-directory" (func $list (param i32 i32 i32 i32)))
  (import "cofferdam:fs/root@0.1.0" "[method]rootfs.read-file" (func $read_file (param i32 i32 i32 i32 i32)))
  (import "cofferdam:fs/root@0.1.0" "[method]rootfs.put-symlink"
    (func $put_symlink (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i64 i32 i32)))
  (import "cofferdam:fs/root@0.1.0" "[resource-drop]rootfs" (func $drop_root (param i32)))
  (import "cofferdam:fs/execution@0.1.0" "[resource-drop]executor" (func $drop_executor (param i32)))
  (memory (export "memory") 4)
  (global $free (mut i32) (i32.const 65536))
  (data (i32.const 4000) "l")
  ;; What `plan` answers, made by the test.
  (data (i32.const 1024) "{PLANNED}")

  (func (export "cabi_realloc") (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $free) (i32.const 15)) (i32.const -16)))
    (global.set $free (i32.add (local.get $at) (local.get $size)))
    (local.get $at))

  (func (export "cofferdam:instruction/handler@0.1.0#check") (param i32) (result i32)
    {CHECK})

  (func (export "cofferdam:instruction/handler@0.1.0#plan") (param i32) (result i32)
    (i32.const 1024))

  ;; The parameters come as one record: step (116 bytes), rootfs at 116, the list of trees at 120, executor at 128.
  (func (export "cofferdam:instruction/handler@0.1.0#apply") (param $in i32) (result i32)
    (local $verb i32) (local $path i32) (local $length i32) (local $tree i32) (local $root i32)
    (local.set $verb (i32.load8_u (i32.load offset=16 (local.get $in))))
    (local.set $path (i32.add (i32.load offset=16 (local.get $in)) (i32.const 1)))
    (local.set $length (i32.sub (i32.load offset=20 (local.get $in)) (i32.const 1)))
    (local.set $root (i32.load offset=116 (local.get $in)))
    (if (i32.load offset=124 (local.get $in))
      (then (local.set $tree (i32.load (i32.load offset=120 (local.get $in))))))
    ;; The host's answer goes to 3072: its tag there, its payload 8 bytes further.
    (if (i32.eq (local.get $verb) (i32.const 111 (; o ;)))
      (then (call $open (local.get $tree) (local.get $path) (local.get $length) (i32.const 3072))))
    (if (i32.eq (local.get $verb) (i32.const 115 (; s ;)))
      (then (call $stat (local.get $tree) (local.get $path) (local.get $length) (i32.const 1) (i32.const 3072))))
    (if (i32.eq (local.get $verb) (i32.const 100 (; d ;)))
      (then (call $list (local.get $tree) (local.get $path) (local.get $length) (i32.const 3072))))
    (if (i32.eq (local.get $verb) (i32.const 114 (; r ;)))
      (then
        (call $read_file (local.get $root) (local.get $path) (local.get $length) (i32.const 100) (i32.const 3072))))
    (if (i32.eq (local.get $verb) (i32.const 112 (; p ;)))
      (then
        (call $put_symlink (local.get $root) (i32.const 4000) (i32.const 1) (local.get $path) (local.get $length)
          (i32.const 511) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 3072))
        (if (i32.eqz (i32.load8_u (i32.const 3072)))
          (then
            (call $read_file (local.get $root) (i32.const 4000) (i32.const 1) (i32.const 100) (i32.const 3072))))))
    (if (i32.eq (local.get $verb) (i32.const 120 (; x ;)))
      (then (if (i32.eqz (i32.load8_u offset=128 (local.get $in))) (then unreachable))))
    ;; Borrowed handles are given back.
    (call $drop_root (local.get $root))
    (if (i32.load8_u offset=128 (local.get $in)) (then (call $drop_executor (i32.load offset=132 (local.get $in)))))
    ;; Our own answer goes to 2048: `ok` with an empty list, or an error: its tag at 4, its payload at 8.
    (i64.store (i32.const 2048) (i64.const 0))
    (i64.store (i32.const 2056) (i64.const 0))
    (if (i32.load8_u (i32.const 3072))
      (then
        (i32.store8 (i32.const 2048) (i32.const 1))
        (if (i32.load8_u (i32.const 3080))
          (then (i32.store8 (i32.const 2052) (i32.const 1)))
          (else
            ;; `denied`: the capability and the message, two pointers and two lengths.
            (memory.copy (i32.const 2056) (i32.const 3088) (i32.const 16))))))
    (i32.const 2048)))
