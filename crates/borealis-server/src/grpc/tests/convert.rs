use super::super::{convert, status};
use super::*;
use crate::service::{ApiError, ApiErrorKind, JobError};

#[test]
fn ratios_are_the_names_of_their_enums() {
    let mut seen = Vec::new();
    for value in 0..=14 {
        let name = ImageAspectRatio::try_from(value).unwrap().as_str_name();
        if let Some(ratio) = convert::ratio(name, "IMG_ASPECT_RATIO_") {
            assert_eq!(convert::ratio_name(&ratio, "IMG_ASPECT_RATIO_"), name);
            seen.push(ratio);
        }
    }
    assert_eq!(
        seen,
        ["1:1", "3:4", "4:3", "9:16", "16:9", "2:3", "3:2", "auto", "9:19.5", "19.5:9", "9:20", "20:9", "1:2", "2:1"]
    );
    assert_eq!(convert::ratio("VIDEO_ASPECT_RATIO_UNSPECIFIED", "VIDEO_ASPECT_RATIO_"), None);
}

#[test]
fn only_what_may_be_repeated_is_unavailable() {
    use ApiErrorKind as Kind;
    for (kind, code) in [
        (Kind::InvalidArgument, Code::InvalidArgument),
        (Kind::Unauthenticated, Code::Unauthenticated),
        (Kind::PermissionDenied, Code::PermissionDenied),
        (Kind::NotFound, Code::NotFound),
        (Kind::Conflict, Code::AlreadyExists),
        (Kind::ContentModerated, Code::InvalidArgument),
        (Kind::ResourceExhausted { retry_after: 3 }, Code::ResourceExhausted),
        (Kind::PaymentRequired, Code::ResourceExhausted),
        (Kind::StorageFull, Code::ResourceExhausted),
        (Kind::Fetch, Code::DataLoss),
        (Kind::Unavailable, Code::Unavailable),
        (Kind::Internal, Code::Internal),
    ] {
        assert_eq!(Status::from(ApiError::new(kind, "why")).code(), code, "{kind:?}");
    }
    let limited = Status::from(ApiError::new(Kind::ResourceExhausted { retry_after: 3 }, "why"));
    assert_eq!(limited.metadata().get("retry-after").unwrap(), "3");
    assert_eq!(Status::from(ApiError::invalid("n", "it is 11")).message(), "n: it is 11");
    for code in ["service_unavailable", "internal_error"] {
        let error = JobError { code: code.into(), message: "why".into() };
        assert_eq!(
            status::of_job(&error).code(),
            Code::Internal,
            "a job that failed is not started again by the client"
        );
    }
}

#[test]
fn times_before_and_after_the_epoch() {
    assert_eq!(convert::timestamp(1_500).to_string(), "1970-01-01T00:00:01.500Z");
    assert_eq!(convert::timestamp(-1_500).to_string(), "1969-12-31T23:59:58.500Z");
}
