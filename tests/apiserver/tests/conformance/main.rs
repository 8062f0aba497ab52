//! The behavior of an API server that Fairlead relies on, as named cases.
//!
//! The suite runs unchanged against the built-in server (one test per case) and, when `KUBEBUILDER_ASSETS` is
//! set, against a real kube-apiserver (one test, which names the failed cases). Behavior of cluster
//! controllers (garbage collection, deletion of namespace contents) is not included, because kube-apiserver
//! alone does not provide it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod apply;
mod context;
mod custom;
mod events;
mod finalizers;
mod lists;
mod objects;
mod patches;
mod services;
mod status;
mod stored;
mod watches;

use std::panic::AssertUnwindSafe;

use context::Context;
use fairlead_apiserver::Cluster;
use fairlead_apiserver::real::RealApiServer;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

macro_rules! behaviors {
    ($($module:ident { $($name:ident),* $(,)? })*) => {
        mod built_in {
            $(mod $module { $(
                #[tokio::test]
                async fn $name() {
                    let cluster = fairlead_apiserver::Cluster::built_in().await.unwrap();
                    let context = crate::context::Context::new(&cluster, stringify!($name)).await;
                    crate::$module::$name(context).await;
                }
            )* })*
        }

        async fn all(cluster: &Cluster) -> Vec<String> {
            // Each closure has a stack frame of its own: together, the futures exceed the stack of a test.
            let behaviors: Vec<(&str, &str, fn(Context) -> LocalBoxFuture<'static, ()>)> = vec![$($(
                (
                    concat!(stringify!($module), "::", stringify!($name)),
                    stringify!($name),
                    |context| Box::pin($module::$name(context)),
                ),
            )*)*];
            let mut failed = Vec::new();
            for (name, namespace, behavior) in behaviors {
                let context = Context::new(cluster, namespace).await;
                match AssertUnwindSafe(behavior(context)).catch_unwind().await {
                    Ok(()) => println!("real kube-apiserver: {name} ... ok"),
                    Err(_) => {
                        println!("real kube-apiserver: {name} ... FAILED");
                        failed.push(name.to_owned());
                    }
                }
            }
            failed
        }
    };
}

behaviors! {
    services {
        load_balancer_gets_cluster_defaults,
        omitted_addresses_and_ports_are_kept,
        type_change_clears_fields_of_old_type,
        dual_stack_follows_family_policy,
        node_ports_are_optional,
        local_policy_gets_health_check_port,
        load_balancer_class_is_immutable,
        invalid_service_names_each_field,
        cluster_ip_belongs_to_one_service,
    }
    status {
        status_merge_patch_writes_annotation_too,
        status_update_keeps_spec,
        object_update_keeps_status,
        patch_with_old_resource_version_conflicts,
        ingress_requires_address_and_load_balancer,
        strategic_merge_keeps_foreign_conditions,
        unchanged_patch_keeps_resource_version,
    }
    apply {
        apply_creates_and_owns_fields,
        omitted_applied_field_is_removed,
        apply_of_foreign_field_conflicts,
        forced_apply_takes_ownership,
        equal_values_are_co_owned,
        status_has_separate_ownership,
        applied_resource_version_must_match,
    }
    watches {
        watch_reports_changes_in_order,
        watch_without_version_begins_with_existing_objects,
        field_selector_watch_reports_added_and_deleted,
        label_selector_watch_reports_added_and_deleted,
        watch_of_one_name_reports_only_that_object,
        bookmarks_end_the_initial_events,
        old_version_is_410_in_watch_stream,
        watch_ends_at_timeout,
        bookmark_precedes_end_of_watch,
        cluster_wide_watch_covers_all_namespaces,
    }
    lists {
        pages_show_one_version,
        selectors_filter_lists,
        unknown_field_selector_is_rejected,
        metadata_list_contains_metadata_only,
        table_has_columns_and_rows,
        patch_of_status_returns_table_without_object,
    }
    custom {
        definition_is_established_and_served,
        schemas_default_prune_and_reject,
        cel_rules_reject_and_see_old_object,
        status_is_a_subresource,
        generation_counts_spec_changes,
        update_requires_resource_version,
        strict_validation_rejects_unknown_fields,
        printer_columns_are_shown,
    }
    objects {
        errors_are_statuses_with_reason,
        second_create_is_already_exists,
        update_of_old_version_conflicts,
        names_can_be_generated,
        dry_run_changes_nothing,
        lease_update_succeeds_for_one_of_two,
        secret_string_data_is_encoded,
        preconditions_hold_or_conflict,
        nodes_have_labels_and_status,
        endpoint_slices_are_validated,
        service_ranges_are_listed_and_immutable,
        object_requires_existing_namespace,
    }
    patches {
        merge_patch_null_removes_field,
        json_patch_tests_before_writing,
        strategic_merge_patch_merges_ports_by_number,
        strategic_merge_patch_of_custom_resource_is_rejected,
    }
    finalizers {
        finalizer_delays_deletion,
        deleting_object_accepts_no_new_finalizer,
        collections_are_deleted_by_selector,
    }
    stored {
        condition_without_time_has_null,
        times_beyond_four_digit_years_are_returned,
        patch_of_unreadable_time_is_refused,
        custom_times_are_returned_as_written,
        too_large_object_is_500_of_the_storage,
    }
    events {
        both_event_versions_show_same_events,
        events_are_selected_by_involved_object,
        event_recorder_creates_one_event_with_count,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_behaviors_on_real_kube_apiserver() {
    let Some(assets) = RealApiServer::assets() else {
        println!("skipped: KUBEBUILDER_ASSETS names no etcd and kube-apiserver");
        return;
    };
    let cluster = Cluster::Real(Box::new(RealApiServer::start(&assets).await.unwrap()));
    let failed = all(&cluster).await;
    assert!(failed.is_empty(), "these behave otherwise on a real kube-apiserver: {failed:#?}");
}
