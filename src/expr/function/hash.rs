//! Hash functions: of the UTF-8 of a text, in hexadecimal digits of lower case.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use crate::expr::cast::hex;
use crate::types::{Type, Value};

use super::Kind::{Bytes, Integer, Text};
use super::Output::Is;
use super::{Args, EvalError, Function, function};

const STRING: super::Output = Is(Type::String);

pub(super) const FUNCTIONS: &[Function] = &[
    function("MD5", &[Text], STRING, digest::<Md5>),
    function("MD5", &[Bytes], STRING, digest::<Md5>),
    function("SHA1", &[Text], STRING, digest::<Sha1>),
    function("SHA1", &[Bytes], STRING, digest::<Sha1>),
    function("SHA224", &[Text], STRING, digest::<Sha224>),
    function("SHA224", &[Bytes], STRING, digest::<Sha224>),
    function("SHA256", &[Text], STRING, digest::<Sha256>),
    function("SHA256", &[Bytes], STRING, digest::<Sha256>),
    function("SHA384", &[Text], STRING, digest::<Sha384>),
    function("SHA384", &[Bytes], STRING, digest::<Sha384>),
    function("SHA512", &[Text], STRING, digest::<Sha512>),
    function("SHA512", &[Bytes], STRING, digest::<Sha512>),
    function("SHA2", &[Text, Integer], STRING, sha2),
    function("SHA2", &[Bytes, Integer], STRING, sha2),
];

fn digest<D: Digest>(args: &Args<'_>) -> Result<Value, EvalError> {
    let mut hasher = D::new();
    match args.value(0) {
        Value::Bytes(bytes) => hasher.update(bytes),
        _ => hasher.update(args.text(0)?),
    }
    Ok(Value::str(hex(&hasher.finalize())))
}

fn sha2(args: &Args<'_>) -> Result<Value, EvalError> {
    match args.int(1)? {
        224 => digest::<Sha224>(args),
        256 => digest::<Sha256>(args),
        384 => digest::<Sha384>(args),
        512 => digest::<Sha512>(args),
        other => Err(EvalError::new(format!(
            "SHA2 makes 224, 256, 384 or 512 bits, not {other}"
        ))),
    }
}
