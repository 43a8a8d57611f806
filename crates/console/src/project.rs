//! Projects and their environments.

use askama::Template;
use serde_json::json;

use crate::form::{query, segment};
use crate::frame::{Frame, missing, refused};
use crate::overview::{ROWS, shown};
use crate::{Api, List, Page, Problem, Thing, Visit};

#[derive(Template)]
#[template(path = "projects.html")]
struct ProjectsPage<'a> {
    frame: Frame<'a>,
    projects: List,
    name: String,
}

/// The list, with a form for a new one.
pub(crate) async fn list(visit: &Visit<'_>, api: &dyn Api, refusal: Option<Problem>) -> Page {
    let asked = query(&[("limit", ROWS), ("page", visit.query.text("page"))]);
    let (projects, problem) = shown(api.call("GET", format!("/projects?{asked}"), None, None).await.list());
    let frame = Frame::new(visit, "projects", "Projects").with(refusal.or(problem));
    Page::html(frame.status(), &ProjectsPage { frame, projects, name: visit.form.text("name").to_owned() })
}

/// Makes one.
pub(crate) async fn create(visit: &Visit<'_>, api: &dyn Api) -> Page {
    let body = json!({"name": visit.form.text("name")});
    match api.call("POST", "/projects".to_owned(), Some(body), visit.key()).await.thing() {
        Ok(project) => Page::go(format!("{}/projects/{}", visit.base(), project.text("id"))),
        Err(problem) => list(visit, api, Some(problem)).await,
    }
}

#[derive(Template)]
#[template(path = "project.html")]
struct Detail<'a> {
    frame: Frame<'a>,
    project: Thing,
    environments: List,
    computes: List,
    confirms: bool,
}

/// One project.
pub(crate) async fn detail(visit: &Visit<'_>, api: &dyn Api, id: &str, refusal: Option<Problem>) -> Page {
    let id = segment(id);
    let project = match api.call("GET", format!("/projects/{id}"), None, None).await.thing() {
        Ok(project) => project,
        Err(problem) => return refused(visit, "projects", problem),
    };
    let told = api.call("GET", format!("/projects/{id}/environments?limit=100"), None, None).await;
    let (environments, _) = shown(told.list());
    let (computes, _) = shown(api.call("GET", format!("/computes?limit=20&project_id={id}"), None, None).await.list());
    let frame = Frame::new(visit, "projects", project.text("name")).with(refusal);
    let confirms = visit.query.get("delete").is_some();
    Page::html(frame.status(), &Detail { frame, project, environments, computes, confirms })
}

/// Does something with one.
pub(crate) async fn act(visit: &Visit<'_>, api: &dyn Api, id: &str, action: &str) -> Page {
    let id = segment(id);
    let name = visit.form.text("name");
    let told = match action {
        "rename" => api.call("PATCH", format!("/projects/{id}"), Some(json!({"name": name})), None).await,
        "environments" => {
            let body = json!({"name": name});
            api.call("POST", format!("/projects/{id}/environments"), Some(body), visit.key()).await
        }
        "delete" => {
            // What goes along with it is named on the page; who typed the project's name has read it.
            let project = api.call("GET", format!("/projects/{id}"), None, None).await.thing();
            let is_named = project.is_ok_and(|project| project.is("name", name));
            if !is_named {
                let problem = Problem {
                    status: 400,
                    code: "bad_request".to_owned(),
                    message: "Type the project's name to delete it with everything in it.".to_owned(),
                    details: vec![("name".to_owned(), "This is not the project's name.".to_owned())],
                    ..Problem::default()
                };
                return detail(visit, api, &id, Some(problem)).await;
            }
            api.call("DELETE", format!("/projects/{id}?force=true"), None, None).await
        }
        _ => return missing(visit),
    };
    match told.thing() {
        Ok(_) if action == "delete" => Page::go(format!("{}/projects", visit.base())),
        Ok(_) => Page::go(format!("{}/projects/{id}", visit.base())),
        Err(problem) => detail(visit, api, &id, Some(problem)).await,
    }
}
