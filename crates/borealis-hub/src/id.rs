//! Names of models.

use std::fmt;
use std::str::FromStr;

use crate::HubError;

/// A model of the hub, perhaps at a branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoId {
    owner: String,
    name: String,
    revision: Option<String>,
}

impl RepoId {
    /// The owner.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name without the owner.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `OWNER/NAME`.
    pub fn repo(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// The revision that was given.
    pub fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// The revision, `main` when none was given.
    pub fn revision_or_main(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Its folder in the cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}--{}", self.owner, self.name)
    }
}

/// A full commit hash.
pub(crate) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

impl FromStr for RepoId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let wrong = |problem| HubError::Id { text: text.into(), problem };
        let (repo, revision) = match text.split_once('@') {
            Some((repo, revision)) => (repo, Some(revision)),
            None => (text, None),
        };
        let (owner, name) = repo.split_once('/').ok_or_else(|| wrong("there is no /"))?;
        for part in [owner, name] {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            if part.is_empty() || part.len() > 96 {
                return Err(wrong("owner and name have 1 to 96 characters"));
            }
            if !part.bytes().all(plain) || part.starts_with(['.', '-']) || part.ends_with(['.', '-']) {
                return Err(wrong("owner and name are letters, digits, -, _ and ."));
            }
            // The cache's folder names are `models--OWNER--NAME`.
            if part.contains("--") || part.contains("..") {
                return Err(wrong("owner and name hold no -- and no .."));
            }
        }
        if let Some(revision) = revision {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_./".contains(&b);
            let parts = revision.split('/').all(|p| !p.is_empty() && !p.starts_with('.') && !p.ends_with(".lock"));
            if revision.len() > 256 || !revision.bytes().all(plain) || !parts || revision.contains("..") {
                return Err(wrong("the revision is no branch, tag or commit"));
            }
        }
        Ok(Self { owner: owner.into(), name: name.into(), revision: revision.map(Into::into) })
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let id: RepoId = "BAAI/Emu3-Gen-hf@refs/pr/3".parse().unwrap();
        assert_eq!((id.owner(), id.name(), id.revision()), ("BAAI", "Emu3-Gen-hf", Some("refs/pr/3")));
        assert_eq!(
            (id.to_string().as_str(), id.folder().as_str()),
            ("BAAI/Emu3-Gen-hf@refs/pr/3", "models--BAAI--Emu3-Gen-hf")
        );
        let id: RepoId = "a/b".parse().unwrap();
        assert_eq!((id.revision_or_main(), id.repo().as_str()), ("main", "a/b"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "gpt2",
            "a/",
            "/b",
            "a/b/c",
            "../x",
            "a/..",
            "a/b--c",
            "a b/c",
            ".a/b",
            "a/b@",
            "a/b@../x",
            "a/b@x/./y",
            "a/b@x\\y",
        ] {
            assert!(text.parse::<RepoId>().is_err(), "{text}");
        }
    }
}
