//! All jobs, by id and by dispatch.
//!
//! Invariant: `by_dispatch` lists exactly the jobs of `by_id` that have a dispatch, each under its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{JobId, jobs::Job};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    by_id: BTreeMap<JobId, Job>,
    by_dispatch: BTreeMap<String, BTreeSet<JobId>>,
}

impl Jobs {
    pub(super) fn insert(&mut self, id: JobId, job: Job) {
        if !job.info.dispatch_id.is_empty() {
            self.by_dispatch.entry(job.info.dispatch_id.clone()).or_default().insert(id);
        }
        self.by_id.insert(id, job);
    }

    pub(super) fn remove(&mut self, id: JobId) -> Option<Job> {
        let job = self.by_id.remove(&id)?;
        if let Some(ids) = self.by_dispatch.get_mut(&job.info.dispatch_id) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_dispatch.remove(&job.info.dispatch_id);
            }
        }
        Some(job)
    }

    pub(super) fn contains(&self, id: JobId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn get(&self, id: JobId) -> Option<&Job> {
        self.by_id.get(&id)
    }

    /// The dispatch of a job never changes.
    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.by_id.get_mut(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (JobId, &Job)> {
        self.by_id.iter().map(|(id, job)| (*id, job))
    }

    pub(super) fn of(&self, dispatch: &str) -> impl Iterator<Item = (JobId, &Job)> {
        self.by_dispatch.get(dispatch).into_iter().flatten().filter_map(|id| Some((*id, self.by_id.get(id)?)))
    }

    /// Those that a condition picks.
    pub(super) fn ids_where(&self, is_meant: impl Fn(&Job) -> bool) -> Vec<JobId> {
        self.iter().filter(|(_, job)| is_meant(job)).map(|(id, _)| id).collect()
    }
}
