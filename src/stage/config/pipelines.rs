//! Which receiver feeds which exporter, and which signals: `service.pipelines`.

use super::answers;
use super::auth::not_configured;
use super::problems::Found;
use super::read::Section;

/// The type of a component, of its `type/name`.
pub(super) fn kind(id: &str) -> &str {
    id.split_once('/').map_or(id, |(kind, _)| kind)
}

/// The components of one kind that a file configures, by id.
#[derive(Default)]
pub(super) struct Configured {
    pub ours: Vec<String>,
    /// Known to be refused already; nothing more is said of them.
    pub refused: Vec<String>,
}

impl Configured {
    /// Sorts a component in by what reading it gave.
    pub(super) fn add(&mut self, id: String, is_ours: bool) {
        if is_ours { self.ours.push(id) } else { self.refused.push(id) }
    }
}

pub(super) struct Components {
    pub receivers: Configured,
    pub processors: Configured,
    pub exporters: Configured,
}

/// Which of them take part. None: what there is one of, or nothing says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Route {
    pub receiver: Option<String>,
    pub exporter: Option<String>,
    /// The signals that have a pipeline; none: all of them.
    pub signals: Option<Vec<String>>,
}

/// `records`: no exporter is needed.
pub(super) fn read(service: Option<&mut Section<'_>>, components: &Components, records: bool, found: &Found) -> Route {
    let pipelines = service.map(|service| service.named("pipelines")).unwrap_or_default();
    if pipelines.is_empty() {
        let only = |configured: &Configured, which| match &configured.ours[..] {
            [one] => Some(one.clone()),
            [] => None,
            several => {
                found.wrong("service.pipelines", format!("which {which}? There are {}", several.join(", ")));
                None
            }
        };
        return Route {
            receiver: only(&components.receivers, "receiver"),
            exporter: only(&components.exporters, "exporter"),
            signals: None,
        };
    }
    let mut route = Route { signals: Some(Vec::new()), ..Route::default() };
    for (id, tree) in pipelines {
        let path = format!("service.pipelines.{id}");
        let Some(mut pipeline) = Section::of(tree, &path, found) else { continue };
        let receivers = (&components.receivers, &mut route.receiver);
        one(&mut pipeline, "receivers", receivers, false, answers::RECEIVERS);
        let exporters = (&components.exporters, &mut route.exporter);
        one(&mut pipeline, "exporters", exporters, records, answers::EXPORTERS);
        processors(&mut pipeline, kind(&id), &components.processors);
        let signals = route.signals.get_or_insert_default();
        match kind(&id) {
            signal @ ("traces" | "metrics" | "logs") if signals.iter().any(|known| known == signal) => {
                found.not_supported(path, answers::PIPELINE);
            }
            signal @ ("traces" | "metrics" | "logs") => signals.push(signal.to_owned()),
            "profiles" => found.not_supported(path, answers::PROFILES),
            _ => found.wrong(path, "is no pipeline of `traces`, `metrics` or `logs`"),
        }
    }
    if !route.signals.iter().flatten().any(|signal| signal == "traces") {
        found.wrong("service.pipelines", "lacks `traces`, which is what unskew is for");
    }
    route
}

/// The one component that a pipeline names, which is the same in all of them.
fn one(
    pipeline: &mut Section<'_>,
    key: &'static str,
    (configured, so_far): (&Configured, &mut Option<String>),
    may_lack: bool,
    several: &str,
) {
    let named = pipeline.texts(key);
    for id in &named {
        if !configured.ours.contains(id) && !configured.refused.contains(id) {
            pipeline.wrong(key, not_configured(id, key, configured.ours.iter().map(String::as_str)));
        }
    }
    if named.is_empty() && !may_lack {
        pipeline.wrong(key, "are none");
    }
    let mut ours = named.into_iter().filter(|id| configured.ours.contains(id));
    let Some(id) = ours.next() else { return };
    let is_other = so_far.as_ref().is_some_and(|known| *known != id);
    if ours.next().is_some() || is_other {
        pipeline.found.not_supported(pipeline.path(key), several);
    }
    so_far.get_or_insert(id);
}

fn processors(pipeline: &mut Section<'_>, signal: &str, configured: &Configured) {
    let named = pipeline.texts("processors");
    for id in &named {
        if !configured.ours.contains(id) && !configured.refused.contains(id) {
            let text = if kind(id) == "unskew" {
                not_configured(id, "processors", configured.ours.iter().map(String::as_str))
            } else {
                answers::PROCESSOR.to_owned()
            };
            pipeline.wrong("processors", text);
        }
    }
    if let Some(unused) = configured.ours.iter().find(|id| signal == "traces" && !named.contains(id)) {
        pipeline.wrong("processors", format!("`{unused}` is configured and not among them: write `[{unused}]`"));
    }
}
