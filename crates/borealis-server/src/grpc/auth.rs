//! `xai_api.Auth`: the key that a call was made with.

use tonic::{Request, Response, Status};

use super::proto::ApiKey;
use super::proto::auth_server::Auth;
use super::{account, convert};
use crate::service::Service;

#[tonic::async_trait]
impl Auth for Service {
    async fn get_api_key_info(&self, request: Request<()>) -> Result<Response<ApiKey>, Status> {
        let account = account(&request)?;
        let made = convert::timestamp(account.created_at);
        // A key that is revoked never gets here; an account is a team of one.
        Ok(Response::new(ApiKey {
            redacted_api_key: account.redacted_key,
            user_id: account.id.clone(),
            name: account.name,
            create_time: Some(made),
            team_id: account.id.clone(),
            acls: account.acls,
            api_key_id: account.key_id,
            modify_time: Some(made),
            api_key_blocked: false,
            modified_by: account.id,
            disabled: false,
            team_blocked: false,
        }))
    }
}
