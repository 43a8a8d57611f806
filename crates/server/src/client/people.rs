//! The commands of members and invitations.

use serde_json::json;

use super::api::{Api, Failure};
use super::command::{Invitations, Members};
use super::resolve;
use super::run::{Session, id_path, show};

const MEMBER_FIELDS: &[&str] = &["id", "email", "role", "created_at"];
const INVITATION_FIELDS: &[&str] = &["id", "email", "role", "invited_by", "expires_at"];

impl Session<'_> {
    pub(super) fn members(&self, command: Members) -> Result<(), Failure> {
        match command {
            Members::List(a) => self.list(&a.server, "/members", &[], a.length.limit, MEMBER_FIELDS),
            Members::Get(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::person(&api, resolve::MEMBER, &a.email)?;
                show(a.server.output, &api.get(&id_path("/members", &id))?.data);
                Ok(())
            }
            Members::Update(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::person(&api, resolve::MEMBER, &a.email)?;
                show(a.server.output, &api.patch(&id_path("/members", &id), &json!({"role": a.role}))?.data);
                Ok(())
            }
            Members::Delete(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::person(&api, resolve::MEMBER, &a.email)?;
                show(a.server.output, &api.delete(&id_path("/members", &id))?.data);
                Ok(())
            }
        }
    }

    pub(super) fn invitations(&self, command: Invitations) -> Result<(), Failure> {
        match command {
            Invitations::List(a) => self.list(&a.server, "/invitations", &[], a.length.limit, INVITATION_FIELDS),
            Invitations::Get(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::person(&api, resolve::INVITATION, &a.email)?;
                show(a.server.output, &api.get(&id_path("/invitations", &id))?.data);
                Ok(())
            }
            Invitations::Create(a) => {
                let body = json!({"email": a.email, "role": a.role});
                show(a.server.output, &self.api(&a.server)?.post("/invitations", &body)?.data);
                Ok(())
            }
            Invitations::Delete(a) => {
                let api = self.api(&a.server)?;
                let id = resolve::person(&api, resolve::INVITATION, &a.email)?;
                show(a.server.output, &api.delete(&id_path("/invitations", &id))?.data);
                Ok(())
            }
            Invitations::Accept(a) => {
                let (url, token) = link(&a.link).unwrap_or((&a.url, &a.link));
                // The token is all that there is for a credential; the operation reads it from the body.
                let api = Api::new(url, Some(token), self.entropy)?;
                show(a.output, &api.post("/invitations/accept", &json!({"token": token}))?.data);
                Ok(())
            }
        }
    }
}

/// The server and the token of a link.
fn link(text: &str) -> Option<(&str, &str)> {
    let (page, token) = text.trim().split_once('#')?;
    Some((page.strip_suffix("/invitations/accept")?, token))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_link_names_server_and_token() {
        let told = super::link("https://cloud.example:8443/invitations/accept#invite_x");
        assert_eq!(told, Some(("https://cloud.example:8443", "invite_x")));
        assert_eq!(super::link("invite_x"), None);
        assert_eq!(super::link("https://cloud.example/#invite_x"), None);
    }
}
