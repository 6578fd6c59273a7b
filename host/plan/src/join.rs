//! The plans of several platforms as one. What does not depend on the platform stands there once: whole stages, and the first
//! steps of stages that differ later. So a stage for the building machine (`FROM --platform=$BUILDPLATFORM`) runs up to the
//! step that first sees `TARGETARCH` for all platforms together.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Base, InputTree, Plan, PlannedStage, Platform, StageNumber, Target};

impl Plan {
    /// Joins plans of one Dockerfile, each for one platform, in this order. A single plan stays what it is.
    pub fn join(plans: Vec<Self>) -> Self {
        let mut joined = Joined::default();
        match <[Self; 1]>::try_from(plans) {
            Ok([only]) => only,
            Err(plans) => {
                for plan in plans {
                    joined.add(&plan);
                }
                joined.share_first_steps();
                joined.show_platforms();
                Self { stages: joined.stages, targets: joined.targets, further: joined.further }
            }
        }
    }
}

#[derive(Default)]
struct Joined {
    stages: BTreeMap<StageNumber, PlannedStage>,
    targets: Vec<Target>,
    further: Vec<StageNumber>,
}

impl Joined {
    fn add(&mut self, plan: &Plan) {
        let mut numbers = BTreeMap::new();
        for target in &plan.targets {
            let stage = self.place(plan, target.stage, &mut numbers);
            self.targets.push(Target { platform: target.platform.clone(), stage });
        }
        for number in &plan.further {
            let stage = self.place(plan, *number, &mut numbers);
            self.further.push(stage);
        }
    }

    /// The number that a stage of `plan` has here, after those that it needs.
    fn place(
        &mut self,
        plan: &Plan,
        number: StageNumber,
        numbers: &mut BTreeMap<StageNumber, StageNumber>,
    ) -> StageNumber {
        if let Some(known) = numbers.get(&number) {
            return *known;
        }
        let mut stage = plan.stages[&number].clone();
        for needed in stage.stages().collect::<BTreeSet<_>>() {
            self.place(plan, needed, numbers);
        }
        if let Base::Stage(base) = &mut stage.base {
            *base = numbers[base];
        }
        for input in
            stage.steps.iter_mut().filter_map(|step| step.action.as_mut()).flat_map(|action| &mut action.inputs)
        {
            if let InputTree::Stage(from) = &mut input.tree {
                *from = numbers[from];
            }
        }
        let here = match self.stages.values().find(|known| known.starts_like(&stage) && known.has_steps_of(&stage)) {
            Some(known) => known.number,
            None => self.insert(stage),
        };
        numbers.insert(number, here);
        here
    }

    fn insert(&mut self, stage: PlannedStage) -> StageNumber {
        let number = self.stages.len();
        self.stages.insert(number, PlannedStage { number, ..stage });
        number
    }

    /// Stages of one FROM that begin with the same steps on the same base get a stage of these steps beneath them.
    fn share_first_steps(&mut self) {
        let mut left: Vec<StageNumber> = self.stages.keys().copied().collect();
        while let Some(first) = left.first().copied() {
            let is_alike = |number: &StageNumber| self.stages[number].starts_like(&self.stages[&first]);
            let (group, rest) = left.iter().partition(|number| is_alike(number));
            left = rest;
            self.share(group);
        }
    }

    fn share(&mut self, group: Vec<StageNumber>) {
        let [first, others @ ..] = &group[..] else { return };
        let first = self.stages[first].clone();
        let alike = |other: &StageNumber| first.steps_alike(&self.stages[other]);
        let Some(count) = others.iter().map(alike).min() else { return };
        let (shared, mut next) = (first.steps[..count].to_vec(), count);
        if shared.iter().any(|step| step.action.is_some()) {
            let below = self.insert(PlannedStage { steps: shared, ..first });
            for number in &group {
                self.put_upon(*number, below);
            }
            next = 0;
        }
        // Some of them may have more in common.
        let mut left = group;
        while let Some(first) = left.first().copied() {
            let first_steps = &self.stages[&first].steps;
            let (alike, rest) = left.iter().partition(|number| {
                let step = self.stages[number].steps.get(next);
                **number == first || step.zip(first_steps.get(next)).is_some_and(|(one, other)| one.is_like(other))
            });
            left = rest;
            self.share(alike);
        }
    }

    fn put_upon(&mut self, number: StageNumber, below: StageNumber) {
        let lower = self.stages[&below].clone();
        if let Some(stage) = self.stages.get_mut(&number) {
            stage.steps.drain(..lower.steps.len());
            stage.earlier_actions += lower.actions();
            stage.base_config = lower.config().clone();
            stage.base = Base::Stage(below);
        }
    }

    /// Stages of several platforms are told apart by where they run, and by what they are for where that is another one.
    fn show_platforms(&mut self) {
        let mut users: BTreeMap<StageNumber, BTreeSet<&Platform>> = BTreeMap::new();
        for target in &self.targets {
            let mut next = vec![target.stage];
            while let Some(number) = next.pop() {
                if users.entry(number).or_default().insert(&target.platform) {
                    next.extend(self.stages[&number].stages());
                }
            }
        }
        for (number, users) in users {
            let Some(stage) = self.stages.get_mut(&number) else { continue };
            let own = &stage.platform;
            let only = users.first().filter(|_| users.len() == 1);
            stage.shown_platform = Some(match only.filter(|user| **user != own) {
                None => own.to_string(),
                Some(user) if user.os == own.os => {
                    format!("{own}->{}", user.to_string().trim_start_matches(&format!("{}/", user.os)))
                }
                Some(user) => format!("{own}->{user}"),
            });
        }
    }
}

impl PlannedStage {
    /// Whether it is the same FROM, with the same meaning.
    fn starts_like(&self, other: &Self) -> bool {
        (self.section, &self.base, &self.platform) == (other.section, &other.base, &other.platform)
            && self.base_config == other.base_config
    }

    fn has_steps_of(&self, other: &Self) -> bool {
        self.steps.len() == other.steps.len() && self.steps_alike(other) == self.steps.len()
    }

    /// How many steps at the beginning are the same.
    fn steps_alike(&self, other: &Self) -> usize {
        self.steps.iter().zip(&other.steps).take_while(|(one, other)| one.is_like(other)).count()
    }
}
