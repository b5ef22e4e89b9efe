"""The kinds of things that people meet, each with the tests that hold it (`tests.cases` runs them).

A test's name is its file's without ``tests/test_``, then its own.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Case:
    """kind: what people meet, in words. missing: what no test holds."""

    kind: str
    tests: tuple[str, ...] = ()
    missing: str = ""


def _case(kind: str, *tests: str, missing: str = "") -> Case:
    return Case(kind, tests, missing)


_SESSION, _GROUPS = "actors_session.py::test_", "actors_groups.py::test_"
_HEAD, _LAUNCH = "actors_head.py::test_", "pipeline_launch.py::test_"
_WORDS, _DOOR = "pipeline_web_page_words.py::test_", "pipeline_web_page_door.py::test_"
_KEYS, _GYM = "pipeline_web_page_keys.py::test_", "pipeline_clients_gym_env.py::test_"

CASES: Final = (
    _case(
        "a reset while an earlier one is still being prepared",
        _SESSION + "the_newest_of_two_resets_wins_while_the_prompts_of_the_first_are_read",
    ),
    _case(
        "everything stopped for a while",
        "actors_repair.py::test_time_in_which_this_process_did_not_run_does_not_count",
        _GROUPS + "time_in_which_nobody_ran_is_no_fault",
        "pipeline_stage_clock.py::test_a_process_that_was_stopped_is_not_late",
    ),
    _case("variables of other people's Ray", _HEAD + "variables_of_another_ray_have_no_say"),
    _case("an optimising interpreter", _HEAD + "variables_of_another_ray_have_no_say"),
    _case("a temporary folder of another script", _HEAD + "where_ray_cannot_live_the_folder_is_elsewhere"),
    _case("no shared memory", _HEAD + "a_machine_without_shared_memory_is_told_so"),
    _case("no loopback", "pipeline_doctor.py::test_what_fails_is_a_line_and_the_exit_code"),
    _case(
        "packages of our names in the way",
        "matrix_live_imports.py::test_the_program_is_itself_among_packages_of_the_same_names",
        "matrix_live_imports.py::test_the_library_says_whose_package_is_in_the_way",
        "actors_membership.py::test_workers_look_for_packages_here_alone",
    ),
    _case("a reader that leaves early", "pipeline_main.py::test_a_reader_that_leaves_early_is_no_error"),
    _case(
        "a processor that is slow at a number format",
        "models_engines_choose.py::test_measured_on_this_machine_and_remembered",
        "models_engines_choose.py::test_the_fastest_is_taken",
    ),
    _case(
        "minutes of work without a word",
        "models_progress.py::test_lines_come_every_few_seconds_with_what_is_left",
        "models_progress.py::test_a_slow_step_is_a_line_each",
    ),
    _case(
        "a machine too slow for the frame rate",
        "pipeline_stage_tempo.py::test_what_is_too_slow_is_named_with_what_helps",
        _WORDS + "a_machine_that_is_too_slow_is_named_with_what_helps",
    ),
    _case(
        "a pause counted as delay",
        "pipeline_stage_figures.py::test_time_that_stood_is_no_delay",
        _WORDS + "a_recordings_clock_stands_while_paused",
        _WORDS + "the_prompt_waits_in_words_while_paused",
    ),
    _case(
        "weights in variants, shards and precisions",
        "models_variants.py::test_the_rule",
        "models_variants.py::test_sharded_variants_are_read_whole",
        "models_checkpoint.py::test_several_precisions_side_by_side",
        "models_transformer_folder.py::test_sharded_variants_saved_by_diffusers_open",
    ),
    _case(
        "LoRA in the forms that are about",
        "models_lora.py::test_key_styles_and_alpha",
        "models_lora.py::test_dora_gives_every_row_its_learned_length",
        "models_lora.py::test_differences_of_weight_and_bias",
        "models_lora.py::test_the_scale_that_peft_keeps_beside_its_file",
        "models_lora.py::test_files_that_do_not_fit",
        "models_checkpoint.py::test_several_loras_each_with_its_scale",
    ),
    _case(
        "weights of another stage",
        "models_stages.py::test_a_folder_of_another_stage_is_refused",
        "models_stages.py::test_published_stages_that_were_swapped_are_refused",
        missing="published stages 2 and 3 under each other's name look the same",
    ),
    _case(
        "a page under a path",
        _DOOR + "it_works_under_a_path_and_leaves_its_cookie_there",
        _DOOR + "it_works_behind_a_real_jupyter_server",
    ),
    _case("tunnels that rename", _DOOR + "it_works_through_tunnels_that_rename_host_or_origin"),
    _case("a link in a chat", _DOOR + "the_printed_address_opens_from_a_link_on_another_site"),
    _case("no WebSockets", _DOOR + "where_websockets_are_blocked_it_says_so_and_goes_on_over_plain_http"),
    _case("keys that browsers take", _KEYS + "keys_that_steer_or_command_stay_with_the_page_but_not_in_the_prompt"),
    _case(
        "a release that was lost",
        _KEYS + "keys_whose_release_the_page_cannot_hear_are_let_go",
        _KEYS + "a_held_key_that_repeats_no_more_is_let_go_and_one_that_never_did_stays",
        _KEYS + "a_shift_whose_release_was_lost_is_noticed_by_the_next_event",
    ),
    _case(
        "keyboards without places",
        _KEYS + "keyboards_that_tell_no_place_steer_by_letter",
        _KEYS + "the_letters_shown_are_those_of_the_users_layout",
    ),
    _case(
        "words that a world does not know",
        "models_words.py::test_what_is_not_known_is_named_with_what_is",
        "models_words.py::test_the_embedded_world_knows_its_presets_and_says_so_of_other_prompts",
        _WORDS + "a_prompt_that_is_too_long_is_cut_with_a_word",
    ),
    _case(
        "the first example, word by word",
        "readme.py::test_examples_are_python",
        "the_matrix.py::test_the_example_takes_the_models_of_its_folder_and_says_so",
        "the_matrix.py::test_a_tilde_is_the_home_folder",
        "the_matrix.py::test_bad_arguments_are_refused_before_anything_loads",
    ),
    _case(
        "a version, and a doctor",
        "configs_version.py::test_every_door_says_the_installed_version",
        "pipeline_doctor.py::test_every_finding_says_how_it_is",
    ),
    _case("recording an environment", _GYM + "the_real_recorder_keeps_every_frame_at_16_a_second"),
    _case(
        "a link pasted into an open page",
        _WORDS + "a_link_pasted_into_an_open_page_is_offered_and_kept_until_it_is_used",
    ),
    _case("a drive for somebody else", _WORDS + "a_drive_goes_to_somebody_else_as_a_file"),
    _case("many recordings", _WORDS + "recordings_lie_in_a_drawer_that_leaves_the_picture_alone"),
    _case("the wheel taken by another", _WORDS + "who_loses_the_wheel_is_told_and_can_take_it_back"),
    _case(
        "no scripts, and a slow start",
        _WORDS + "without_javascript_it_says_so",
        _WORDS + "loading_is_told_in_plain_words",
        "pipeline_main.py::test_a_run_says_something_before_anything_heavy_is_imported",
    ),
    _case(
        "a start that shows another thing than its prompt",
        "models_presets.py::test_the_embedded_worlds_pictures_are_its_start_clips",
    ),
    _case("a signal while a video is written", "pipeline_video.py::test_a_signal_leaves_no_unfinished_file"),
    _case(
        "a text worker that stands still",
        _SESSION + "a_stopped_text_worker_is_replaced_and_the_picture_does_not_wait",
    ),
    _case(
        "a cluster that dies while loading",
        _GROUPS + "a_cluster_that_dies_while_the_models_load_gets_one_more_attempt",
    ),
    _case(
        "a worker that dies while loading",
        _GROUPS + "a_worker_that_dies_while_it_loads_gets_another_attempt",
    ),
    _case("a start on a busy machine", _GROUPS + "a_start_on_a_very_busy_machine_gets_there_or_says_why"),
    _case("a cluster that freezes", _GROUPS + "a_frozen_cluster_is_replaced_and_not_a_byte_differs"),
    _case("a death during a repair", _SESSION + "deaths_during_a_repair_make_it_longer_and_not_a_byte_differs"),
    _case("what a killed run leaves", _HEAD + "a_folder_that_nobody_holds_is_swept"),
    _case("a flood of resets", _SESSION + "of_a_flood_of_resets_the_last_one_counts"),
    _case(
        "a disk that is full",
        "pipeline_stage_show.py::test_a_full_disk_ends_the_files_with_a_notice_and_never_the_show",
        _LAUNCH + "a_summary_that_cannot_be_written_is_named_and_leaves_no_part",
        _LAUNCH + "a_log_that_failed_is_said_at_the_end_and_in_the_exit_code",
    ),
    _case("files of a start that failed", _LAUNCH + "what_never_held_a_frame_is_not_there"),
    _case("one file for two purposes", _LAUNCH + "one_file_has_one_purpose"),
    _case("a replay that goes on", _LAUNCH + "a_replay_goes_on_with_the_controls"),
    _case(
        "files that nest too deeply",
        "configs_load.py::test_hostile_yaml_is_one_line_within_two_seconds",
        "models_checkpoint.py::test_deeply_nested_json_is_one_line",
        "models_checkpoint.py::test_metadata_of_start_clips_may_be_hostile",
    ),
    _case(
        "weights that are no numbers",
        "models_weights.py::test_broken_weights_are_refused",
        "models_lora.py::test_updates_that_overflow_are_refused",
    ),
    _case(
        "files without end",
        "configs_files.py::test_a_sparse_giant_is_refused_before_it_is_read",
        "pipeline_stage_recording.py::test_a_log_is_a_plain_file_of_bounded_size",
    ),
    _case("a prompt that is followed", _WORDS + "a_prompt_is_said_to_be_followed_once_it_is"),
    _case("a phone on its side", _WORDS + "a_phone_on_its_side_shows_the_whole_picture_with_the_keys_over_it"),
    _case("a summary of a start that failed", _LAUNCH + "nothing_is_written_while_workers_load"),
    _case("flags that cannot be followed", "pipeline_main.py::test_bad_input"),
    _case(
        "examples in another folder",
        "matrix_live_imports.py::test_everything_is_found_from_anywhere",
        "models_folder.py::test_model_folder_rule",
        "configs_load.py::test_a_shipped_file_is_found_from_anywhere",
    ),
    _case("a drive wiped at once", _WORDS + "after_a_reset_the_drive_that_was_can_be_driven_again"),
    _case(
        "technical words",
        _WORDS + "the_end_is_told_in_plain_words",
        _WORDS + "loading_is_told_in_plain_words",
    ),
    _case("figures of another machine", "readme.py::test_figures_name_the_machines_they_are_of"),
    _case(
        "an environment like others",
        _GYM + "what_is_made_can_do_all_that_the_class_can",
        "configs_version.py::test_every_door_says_the_installed_version",
    ),
)  # fmt: skip
