//! The words that must not be used, each with its replacement.

/// Spellings of a word or phrase that must not be used, and its replacement. Upper and lower case are the same.
pub(crate) const UNUSED: &[(&[&str], &str)] = &[
    // A private vocabulary in place of the field's terms.
    (&["house", "houses"], "codebase, daemon"),
    (&["door", "doors"], "listener, socket"),
    (&["roof"], "top level"),
    (&["floor", "floors"], "layer"),
    (&["crew", "crews"], "workers, WorkerSet"),
    (&["roster", "rosters"], "active workers"),
    (&["keeper", "keepers"], "supervisor, SupervisorHandle"),
    (
        &[
            "hire", "hires", "hired", "employ", "employs", "employed", "enlist", "enlists",
            "enlisted",
        ],
        "spawn, register",
    ),
    (&["dismiss", "dismisses", "dismissed"], "shut down"),
    (&["vitals", "pulse"], "heartbeat"),
    (
        &["heir", "heirs", "errand", "errands", "farewell", "inheritance"],
        "state transfer, saved state, next generation",
    ),
    (&["workshop"], "check context"),
    (&["verdict", "verdicts"], "result, change"),
    (&["stray", "strays"], "orphaned"),
    (&["stranger", "strangers"], "untrusted client, unknown file"),
    (&["newcomer", "newcomers"], "added"),
    (&["vanished"], "removed"),
    (&["hindrance", "hindrances"], "sandbox conflict"),
    (&["wishes"], "requests"),
    (&["judge", "judges", "judged"], "validate, check"),
    (&["patience"], "timeout"),
    (&["hindered"], "blocked"),
    (&["mend", "mends", "mended"], "fix"),
    // Words of another century.
    (&["told"], "reported, notified, acknowledged"),
    (&["anew"], "again"),
    (&["whoever", "whosoever", "whomever"], "anyone who, the client that"),
    (&["lest"], "so that … not"),
    (
        &["thereof", "whereof", "whereby", "therein", "wherein", "hitherto"],
        "of it, by this, in which",
    ),
    // Phrases that have to be read twice.
    (&["goes on", "go on", "going on", "went on", "gone on"], "continues"),
    (
        &["is over", "are over", "was over", "were over", "be over", "been over"],
        "has ended, exceeds",
    ),
    (&["in hand"], "in progress"),
    (&["of all or nothing"], "--all-or-nothing"),
    (&["has a life", "have a life", "a life of its own"], "lifecycle"),
    (&["what became of", "what becomes of", "what came of", "what comes of"], "outcome"),
    (
        &[
            "that is none",
            "that are none",
            "which is none",
            "which are none",
            "is no text",
            "are no text",
        ],
        "malformed, not a …, not text",
    ),
    (&["is none of", "are none of"], "is not one of"),
    (&["what belongs to nobody", "belongs to nobody"], "orphaned"),
    (&["what was there"], "the previous version"),
    (&["more than nothing"], "greater than zero"),
    (&["has nothing to say", "have nothing to say"], "reports nothing"),
    (&["—"], "a full stop, a comma or a colon"),
];
