//! Caches in a bucket, from moto.

use cofferdam_tests::{
    Finished, Moto,
    fault_proxy::{Fault, FaultProxy},
};

use crate::{STEPS, Scene, cached};

/// moto with the bucket `cache`.
struct Bucket {
    moto: Moto,
}

/// As a flag takes them.
const KEYS: &str = "access_key_id=any,secret_access_key=any-secret";

impl Bucket {
    fn new() -> Option<Self> {
        let bucket = Self { moto: Moto::start(u32::MAX)? };
        bucket
            .python("s3.create_bucket(Bucket='cache', CreateBucketConfiguration={'LocationConstraint': 'eu-west-1'})");
        Some(bucket)
    }

    fn python(&self, script: &str) -> String {
        self.moto.python(&format!("s3 = client('s3')\n{script}"))
    }

    /// The value of a flag, for a server.
    fn at(host: &str, more: &str) -> String {
        format!("type=s3,bucket=cache,region=eu-west-1,endpoint_url=http://{host},use_path_style=true,{KEYS}{more}")
    }

    fn flag(&self, more: &str) -> String {
        Self::at(&self.moto.host(), more)
    }

    /// All keys, sorted.
    fn keys(&self) -> Vec<String> {
        let script =
            "print(*sorted(item['Key'] for item in s3.list_objects_v2(Bucket='cache').get('Contents', [])), sep='\\n')";
        self.python(script).lines().map(str::to_owned).filter(|line| !line.is_empty()).collect()
    }
}

#[test]
fn a_bucket_has_what_another_machine_needs() {
    let (Some(scene), Some(bucket)) = (Scene::new(), Bucket::new()) else { return };
    let from = bucket.flag(",name=main");
    let nothing = scene.build_anew(&["--cache-from", &from, "-t", "x"]).success();
    assert!(!nothing.stderr.contains("warning"), "{}", nothing.stderr);
    let to = bucket.flag(",name=main,mode=max");
    let first = scene.build_anew(&["--cache-to", &to, "--push", "-t", &scene.reference("app:1")]).success();
    assert_eq!(first.digest(), nothing.digest());
    assert!(!first.stderr.contains("warning") && !first.stderr.contains("any-secret"), "{}", first.stderr);
    let keys = bucket.keys();
    assert_eq!(keys.last().map(String::as_str), Some("manifests/main"), "{keys:?}");
    let layers = scene.layers("app:1").split_off(1);
    assert!(layers.iter().all(|layer| keys.contains(&format!("blobs/{layer}"))), "{keys:?}");
    let second = scene.build_anew(&["--cache-from", &from, "--push", "-t", &scene.reference("app:2")]).success();
    assert_eq!((second.digest(), cached(&second)), (first.digest(), STEPS - 2), "{}", second.stderr);
    // The registry has the layers under another name, but does not tell; nothing else was fetched than what it was sent.
    let small = bucket.flag(",name=small,prefix=team/,mode=min");
    scene.build_anew(&["--cache-from", &from, "--cache-to", &small, "-t", "x"]).success();
    let keys = bucket.keys();
    assert!(keys.contains(&"team/manifests/small".to_owned()), "{keys:?}");
    let own = keys.iter().filter(|key| key.starts_with("team/blobs/")).count();
    assert_eq!(own, layers.len(), "{keys:?}");
    // The variables of the environment are enough, too.
    let plain = scene.site.program(&["--cache-from", "type=s3,bucket=cache,name=main", "-t", "x"]);
    let plain = plain.env("S3_ENDPOINT", format!("http://{}", bucket.moto.host())).env("AWS_REGION", "eu-west-1");
    let plain = plain.env("AWS_ACCESS_KEY_ID", "any").env("AWS_SECRET_ACCESS_KEY", "any");
    let _ = std::fs::remove_dir_all(scene.site.store());
    assert_eq!(cached(&scene.with(plain).success()), STEPS - 2);
}

#[test]
fn what_is_broken_in_a_bucket_is_told_and_made_again() {
    let (Some(scene), Some(bucket)) = (Scene::new(), Bucket::new()) else { return };
    let flag = bucket.flag(",name=main");
    let first = scene
        .build_anew(&["--cache-to", &bucket.flag(",name=main,mode=max"), "--push", "-t", &scene.reference("app:1")])
        .success();
    let build = |from: &str, says: &str| -> Finished {
        let built = scene.build_anew(&["--cache-from", from, "--push", "-t", &scene.reference("app:2")]).success();
        assert_eq!(built.digest(), first.digest(), "{says}");
        assert!(built.stderr.contains(says), "`{says}` is not in {}", built.stderr);
        assert!(!built.stderr.contains("any-secret"), "{}", built.stderr);
        built
    };
    let layer = scene.layers("app:1").pop().expect("layers");
    // A registry that has the layer would be asked first.
    let elsewhere = |what: &str, change: &str| {
        bucket.python(&format!(
            "key = 'blobs/{layer}'\nbody = s3.get_object(Bucket='cache', Key=key)['Body'].read()\n{change}"
        ));
        scene.site.file("file", "content\n");
        let built = scene.build_anew(&["--cache-from", &flag, "-o", "type=tar,dest=/dev/null", "-t", "x"]).success();
        assert!(built.stderr.contains("begins again without it"), "{what}: {}", built.stderr);
        assert_eq!(built.digest(), first.digest(), "{what}");
    };
    elsewhere("other bytes", "s3.put_object(Bucket='cache', Key=key, Body=bytes(b ^ 1 for b in body))");
    elsewhere("shorter", "s3.put_object(Bucket='cache', Key=key, Body=body[:-5])");
    elsewhere("nothing", "s3.delete_object(Bucket='cache', Key=key)");
    bucket.python("s3.put_object(Bucket='cache', Key='manifests/main', Body=b'[]')");
    build(&flag, "is not used");
    bucket.python("s3.put_object(Bucket='cache', Key='manifests/main', Body=bytes(5 << 20))");
    build(&flag, "is no cache of ours");
    let no_bucket = flag.replace("bucket=cache", "bucket=other");
    build(&no_bucket, "NoSuchBucket");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    build(&Bucket::at(&closed.to_string(), ""), "can't connect to");
    // A build that can't write its cache is a build.
    let refusing = FaultProxy::start(Some(bucket.moto.port()), |request, _| match request.method.as_str() {
        "PUT" => Fault::status(403, "<Error><Code>AccessDenied</Code></Error>"),
        _ => Fault::None,
    });
    let to = Bucket::at(&refusing.host(), ",mode=max");
    let unwritten = scene.build_anew(&["--cache-to", &to, "-t", "x"]).success();
    assert!(unwritten.stderr.contains("was not written") && unwritten.stderr.contains("403"), "{}", unwritten.stderr);
    let wrong = scene.build_anew(&["--cache-to", "type=s3,secret_access_key=any-secret", "-t", "x"]);
    assert!(wrong.code == 2 && !wrong.stderr.contains("any-secret"), "{}", wrong.stderr);
}

#[test]
fn a_large_layer_goes_to_a_bucket_in_parts() {
    let (Some(scene), Some(bucket)) = (Scene::new(), Bucket::new()) else { return };
    // Noise can't be compressed: three parts of 16 MiB, of which the second comes at the second attempt.
    scene.site.file("noise", cofferdam_tests::noise(40 << 20, 11)).dockerfile("FROM scratch\nCOPY noise /\n");
    let server = FaultProxy::start(Some(bucket.moto.port()), {
        let failed = std::sync::atomic::AtomicBool::new(false);
        move |request, _| {
            let is_second = request.method == "PUT" && request.query.contains("partNumber=2");
            match is_second && !failed.swap(true, std::sync::atomic::Ordering::Relaxed) {
                true => Fault::status(503, "<Error><Code>SlowDown</Code></Error>"),
                false => Fault::None,
            }
        }
    });
    let flag = Bucket::at(&server.host(), "");
    let first = scene.build_anew(&["--cache-to", &flag, "-t", "x"]).success();
    assert!(!first.stderr.contains("warning"), "{}", first.stderr);
    let parts = server.requests().iter().filter(|request| request.query.contains("partNumber=")).count();
    assert_eq!(parts, 4);
    let second = scene.build_anew(&["--cache-from", &flag, "-o", "type=tar,dest=/dev/null", "-t", "x"]).success();
    assert_eq!((second.digest(), cached(&second)), (first.digest(), 1), "{}", second.stderr);
}
