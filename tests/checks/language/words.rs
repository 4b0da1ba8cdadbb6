//! The words that are not used, each with its replacement, and what is not clean yet.

/// Spellings of a word or phrase that is not used, and what to write instead. Upper and lower case are the same.
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

/// The files and directories that still have such words. An entry that is clean is removed: the list only shrinks.
pub(crate) const NOT_YET: &[&str] = &[
    "host/plugind-artifact/src",
    "host/man/plugind.8",
    "host/pluginctl/src",
    "host/plugind-compile/src",
    "host/plugind/src",
];

/// The names of tests that are still longer than allowed. The same holds for them.
pub(crate) const LONG_NAMES_YET: &[&str] = &[
    "a_compiler_that_hangs_dies_or_talks_nonsense_fails_the_plugin_that_it_was_to_compile",
    "a_hundred_reloads_with_bad_versions_among_them_lose_nothing_and_touch_nothing_else",
    "a_plugin_that_waits_for_its_next_try_is_told_with_the_cause_and_has_it_when_asked",
    "a_program_that_ends_well_is_done_and_is_started_again_only_where_its_manifest_says_so",
    "a_reload_in_which_a_plugin_fails_says_where_and_why_and_the_older_version_serves_on",
    "a_required_plugin_without_a_compiler_ends_the_daemon_but_its_configuration_is_not_at_fault",
    "a_service_is_asked_over_few_connections_and_the_daemon_has_no_compiled_files_of_its_own",
    "a_socket_that_was_handed_over_belongs_to_the_network_in_which_it_was_opened_whatever_is_done_with_it",
    "a_thread_that_is_held_up_in_a_task_does_not_answer_and_the_others_do_not_make_up_for_it",
    "an_instance_that_has_its_age_finishes_what_it_has_and_is_replaced_without_being_asked",
    "code_on_a_file_system_without_execution_is_run_where_the_unit_allows_it_and_told_with_a_remedy_where_not",
    "systemd_has_a_state_at_any_moment_and_the_older_one_goes_when_the_newer_one_is_there",
    "systemd_has_nothing_to_say_about_the_units_but_what_it_does_not_know_whatever_the_prefix",
    "what_reads_components_has_landlock_under_the_unit_and_where_it_has_not_that_is_told",
    "what_was_granted_a_network_fails_under_the_unit_as_shipped_and_works_with_the_drop_in",
    "who_waits_for_a_daemon_that_cannot_start_is_refused_in_the_end_and_a_restart_heals_it",
];
