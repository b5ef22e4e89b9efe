"""The kinds of things that people meet, each with the tests that hold it (`tests.cases` runs them)."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Case:
    """kind: what people meet, in words. tests: FILE.py::NAME in tests/test_... missing: what no
    test holds."""

    kind: str
    tests: tuple[str, ...] = ()
    missing: str = ""


def case(kind: str, missing: str = "", **tests: str | tuple[str, ...]) -> Case:
    """tests: by file, one or several; without the test_ that all begin with."""
    found = tuple(
        f"{file}.py::test_{name}"
        for file, names in tests.items()
        for name in ((names,) if isinstance(names, str) else names)
    )
    return Case(kind, found, missing)


CASES: Final = (
    case(
        "a reset while an earlier one is still being prepared",
        actors_session="the_newest_of_two_resets_wins_while_the_prompts_of_the_first_are_read",
    ),
    case(
        "everything stopped for a while",
        actors_repair="time_in_which_this_process_did_not_run_does_not_count",
        actors_groups="time_in_which_nobody_ran_is_no_fault",
        pipeline_stage_clock="a_process_that_was_stopped_is_not_late",
    ),
    case("variables of other people's Ray", actors_head="variables_of_another_ray_have_no_say"),
    case("an optimising interpreter", actors_head="variables_of_another_ray_have_no_say"),
    case(
        "a temporary folder of another script",
        actors_head="where_ray_cannot_live_the_folder_is_elsewhere",
    ),
    case("no shared memory", actors_head="a_machine_without_shared_memory_is_told_so"),
    case("no loopback", pipeline_doctor="what_fails_is_a_line_and_the_exit_code"),
    case(
        "packages of our names in the way",
        matrix_live_imports=(
            "the_program_is_itself_among_packages_of_the_same_names",
            "the_library_says_whose_package_is_in_the_way",
        ),
        actors_membership="workers_look_for_packages_here_alone",
    ),
    case("a reader that leaves early", pipeline_main="a_reader_that_leaves_early_is_no_error"),
    case(
        "a processor that is slow at a number format",
        models_engines_choose=("measured_on_this_machine_and_remembered", "the_fastest_is_taken"),
    ),
    case(
        "minutes of work without a word",
        models_progress=(
            "lines_come_every_few_seconds_with_what_is_left",
            "a_slow_step_is_a_line_each",
        ),
    ),
    case(
        "a machine too slow for the frame rate",
        pipeline_stage_tempo="what_is_too_slow_is_named_with_what_helps",
        pipeline_web_page_words="a_machine_that_is_too_slow_is_named_with_what_helps",
    ),
    case(
        "a pause counted as delay",
        pipeline_stage_figures="time_that_stood_is_no_delay",
        pipeline_web_page_words=(
            "a_recordings_clock_stands_while_paused",
            "the_prompt_waits_in_words_while_paused",
        ),
    ),
    case(
        "weights in variants, shards and precisions",
        models_variants=("the_rule", "sharded_variants_are_read_whole"),
        models_checkpoint="several_precisions_side_by_side",
        models_transformer_folder="sharded_variants_saved_by_diffusers_open",
    ),
    case(
        "LoRA in the forms that are about",
        models_lora=(
            "key_styles_and_alpha",
            "dora_gives_every_row_its_learned_length",
            "differences_of_weight_and_bias",
            "the_scale_that_peft_keeps_beside_its_file",
            "files_that_do_not_fit",
        ),
        models_checkpoint="several_loras_each_with_its_scale",
    ),
    case(
        "weights of another stage",
        models_stages=(
            "a_folder_of_another_stage_is_refused",
            "published_stages_that_were_swapped_are_refused",
        ),
        missing="published stages 2 and 3 under each other's name: same parts, names, shapes, formats "
        "and settings; which numbers are whose nobody here has seen",
    ),
    case(
        "a page under a path",
        pipeline_web_page_door=(
            "it_works_under_a_path_and_leaves_its_cookie_there",
            "it_works_behind_a_real_jupyter_server",
        ),
    ),
    case(
        "tunnels that rename",
        pipeline_web_page_door="it_works_through_tunnels_that_rename_host_or_origin",
    ),
    case(
        "a link in a chat",
        pipeline_web_page_door="the_printed_address_opens_from_a_link_on_another_site",
    ),
    case(
        "no WebSockets",
        pipeline_web_page_door="where_websockets_are_blocked_it_says_so_and_goes_on_over_plain_http",
    ),
    case(
        "keys that browsers take",
        pipeline_web_page_keys="keys_that_steer_or_command_stay_with_the_page_but_not_in_the_prompt",
    ),
    case(
        "a release that was lost",
        pipeline_web_page_keys=(
            "keys_whose_release_the_page_cannot_hear_are_let_go",
            "a_held_key_that_repeats_no_more_is_let_go_and_one_that_never_did_stays",
            "a_shift_whose_release_was_lost_is_noticed_by_the_next_event",
        ),
    ),
    case(
        "keyboards without places",
        pipeline_web_page_keys=(
            "keyboards_that_tell_no_place_steer_by_letter",
            "the_letters_shown_are_those_of_the_users_layout",
        ),
    ),
    case(
        "words that a world does not know",
        models_words=(
            "what_is_not_known_is_named_with_what_is",
            "the_embedded_world_knows_its_presets_and_says_so_of_other_prompts",
        ),
        pipeline_web_page_words="a_prompt_that_is_too_long_is_cut_with_a_word",
    ),
    case(
        "the first example, word by word",
        readme="examples_are_python",
        the_matrix=(
            "the_example_takes_the_models_of_its_folder_and_says_so",
            "a_tilde_is_the_home_folder",
            "bad_arguments_are_refused_before_anything_loads",
        ),
    ),
    case(
        "a version, and a doctor",
        configs_version="every_door_says_the_installed_version",
        pipeline_doctor="every_finding_says_how_it_is",
    ),
    case(
        "recording an environment",
        pipeline_clients_gym_env="the_real_recorder_keeps_every_frame_at_16_a_second",
    ),
    case(
        "a link pasted into an open page",
        pipeline_web_page_words="a_link_pasted_into_an_open_page_is_offered_and_kept_until_it_is_used",
    ),
    case(
        "a drive for somebody else",
        pipeline_web_page_words="a_drive_goes_to_somebody_else_as_a_file",
    ),
    case(
        "many recordings",
        pipeline_web_page_words="recordings_lie_in_a_drawer_that_leaves_the_picture_alone",
    ),
    case(
        "the wheel taken by another",
        pipeline_web_page_words="who_loses_the_wheel_is_told_and_can_take_it_back",
    ),
    case(
        "no scripts, and a slow start",
        pipeline_web_page_words=("without_javascript_it_says_so", "loading_is_told_in_plain_words"),
        pipeline_main="a_run_says_something_before_anything_heavy_is_imported",
    ),
    case(
        "a start that shows another thing than its prompt",
        models_presets="the_embedded_worlds_pictures_are_its_start_clips",
    ),
    case("a signal while a video is written", pipeline_video="a_signal_leaves_no_unfinished_file"),
    case(
        "a text worker that stands still",
        actors_session="a_stopped_text_worker_is_replaced_and_the_picture_does_not_wait",
    ),
    case(
        "a cluster that dies while loading",
        actors_groups="a_cluster_that_dies_while_the_models_load_gets_one_more_attempt",
    ),
    case(
        "a worker that dies while loading",
        actors_groups="a_worker_that_dies_while_it_loads_gets_another_attempt",
    ),
    case(
        "a start on a busy machine",
        actors_groups="a_start_on_a_very_busy_machine_gets_there_or_says_why",
    ),
    case(
        "a cluster that freezes",
        actors_groups="a_frozen_cluster_is_replaced_and_not_a_byte_differs",
    ),
    case(
        "a death during a repair",
        actors_session="deaths_during_a_repair_make_it_longer_and_not_a_byte_differs",
    ),
    case("what a killed run leaves", actors_head="a_folder_that_nobody_holds_is_swept"),
    case("a flood of resets", actors_session="of_a_flood_of_resets_the_last_one_counts"),
    case(
        "a disk that is full",
        pipeline_stage_show="a_full_disk_ends_the_files_with_a_notice_and_never_the_show",
        pipeline_launch=(
            "a_summary_that_cannot_be_written_is_named_and_leaves_no_part",
            "a_log_that_failed_is_said_at_the_end_and_in_the_exit_code",
        ),
    ),
    case("files of a start that failed", pipeline_launch="what_never_held_a_frame_is_not_there"),
    case("one file for two purposes", pipeline_launch="one_file_has_one_purpose"),
    case("a replay that goes on", pipeline_launch="a_replay_goes_on_with_the_controls"),
    case(
        "files that nest too deeply",
        configs_load="hostile_yaml_is_one_line_within_two_seconds",
        models_checkpoint=(
            "deeply_nested_json_is_one_line",
            "metadata_of_start_clips_may_be_hostile",
        ),
    ),
    case(
        "weights that are no numbers",
        models_weights="broken_weights_are_refused",
        models_lora="updates_that_overflow_are_refused",
    ),
    case(
        "files without end",
        configs_files="a_sparse_giant_is_refused_before_it_is_read",
        pipeline_stage_control_log="a_log_is_a_plain_file_of_bounded_size",
    ),
    case(
        "a prompt that is followed",
        pipeline_web_page_words="a_prompt_is_said_to_be_followed_once_it_is",
    ),
    case(
        "a phone on its side",
        pipeline_web_page_words="a_phone_on_its_side_shows_the_whole_picture_with_the_keys_over_it",
    ),
    case(
        "a summary of a start that failed", pipeline_launch="nothing_is_written_while_workers_load"
    ),
    case("flags that cannot be followed", pipeline_main="bad_input"),
    case(
        "examples in another folder",
        matrix_live_imports="everything_is_found_from_anywhere",
        models_weight_folder="model_folder_rule",
        configs_load="a_shipped_file_is_found_from_anywhere",
    ),
    case(
        "a drive wiped at once",
        pipeline_web_page_words="after_a_reset_the_drive_that_was_can_be_driven_again",
    ),
    case(
        "technical words",
        pipeline_web_page_words=(
            "the_end_is_told_in_plain_words",
            "loading_is_told_in_plain_words",
        ),
    ),
    case("figures of another machine", readme="figures_name_the_machines_they_are_of"),
    case(
        "an environment like others",
        pipeline_clients_gym_env="what_is_made_can_do_all_that_the_class_can",
        configs_version="every_door_says_the_installed_version",
    ),
)
