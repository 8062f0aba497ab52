//! What Fairlead relies on of an API server, as named behaviours.
//!
//! The suite runs unchanged against the built-in server (each behaviour a test of its own) and, when
//! `KUBEBUILDER_ASSETS` is set, against a real kube-apiserver (all behaviours in one test, which names those that
//! fail). What only controllers of a cluster do (garbage collection, emptying namespaces) is not asked here, since a
//! kube-apiserver alone does not do it.

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
mod watches;

use std::panic::AssertUnwindSafe;

use context::Context;
use fairlead_apiserver::Cluster;
use fairlead_apiserver::real::RealApiServer;
use futures::FutureExt;

macro_rules! behaviours {
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
            let mut failed = Vec::new();
            $($({
                let name = concat!(stringify!($module), "::", stringify!($name));
                let context = Context::new(cluster, stringify!($name)).await;
                let behaviour = AssertUnwindSafe($module::$name(context)).catch_unwind();
                match behaviour.await {
                    Ok(()) => println!("real kube-apiserver: {name} ... ok"),
                    Err(_) => {
                        println!("real kube-apiserver: {name} ... FAILED");
                        failed.push(name.to_owned());
                    }
                }
            })*)*
            failed
        }
    };
}

behaviours! {
    services {
        a_load_balancer_is_completed_as_a_cluster_does,
        addresses_and_ports_that_are_left_out_of_an_update_stay,
        a_change_of_type_clears_what_belonged_to_the_old_type,
        dual_stack_comes_and_goes_with_the_policy,
        node_ports_are_not_allocated_when_not_wanted,
        external_traffic_policy_local_gets_a_health_check_port,
        the_class_of_a_load_balancer_cannot_change,
        what_is_wrong_with_a_service_is_named,
        a_cluster_ip_belongs_to_one_service,
    }
    status {
        a_merge_patch_writes_status_and_annotation_at_once,
        the_spec_does_not_change_through_status,
        status_does_not_change_through_the_object,
        a_patch_decided_on_an_old_version_conflicts,
        an_ingress_needs_an_address_and_a_load_balancer,
        conditions_of_others_survive_a_strategic_merge,
        a_patch_that_changes_nothing_makes_no_version,
    }
    apply {
        applying_creates_and_owns,
        what_is_left_out_is_removed,
        another_value_for_a_field_of_another_conflicts,
        force_takes_a_field_over,
        owners_of_the_same_value_share_it,
        status_is_owned_apart_from_the_object,
        an_applied_resource_version_must_match,
    }
    watches {
        a_watch_tells_what_happens_in_order,
        a_watch_without_a_version_begins_with_what_is_there,
        a_field_selector_sees_services_come_and_go,
        a_label_selector_sees_objects_come_and_go,
        a_watch_of_one_name_sees_only_it,
        bookmarks_end_the_initial_events,
        a_version_too_old_is_410_in_the_stream,
        a_watch_ends_at_its_timeout,
        a_cluster_wide_watch_sees_all_namespaces,
    }
    lists {
        pages_are_of_one_version,
        selectors_select,
        an_unknown_field_selector_is_refused,
        a_list_of_metadata_has_metadata_only,
        a_table_has_columns_and_rows,
    }
    custom {
        a_definition_is_established_and_its_objects_are_served,
        schemas_default_prune_and_refuse,
        rules_refuse_and_see_the_old_object,
        status_is_a_subresource_of_its_own,
        the_generation_counts_changes_of_the_spec,
        an_update_needs_a_version,
        unknown_fields_are_refused_when_asked_strictly,
        printer_columns_are_shown,
    }
    objects {
        errors_are_statuses_that_say_why,
        creating_twice_is_already_exists,
        an_update_of_an_old_version_conflicts,
        names_can_be_generated,
        a_dry_run_changes_nothing,
        a_lease_is_replaced_by_one_of_two,
        secrets_hold_what_strings_were_given,
        preconditions_hold_or_conflict,
        nodes_have_labels_and_status,
        endpoint_slices_are_checked,
        a_namespace_must_be_there,
    }
    patches {
        a_merge_patch_removes_with_null,
        a_json_patch_tests_before_it_writes,
        a_strategic_merge_patch_merges_ports_by_number,
        a_strategic_merge_patch_of_a_custom_resource_is_refused,
    }
    finalizers {
        a_finalizer_holds_a_deletion_until_it_is_removed,
        no_finalizer_is_added_to_what_is_going,
        collections_are_deleted_by_selector,
    }
    events {
        both_versions_show_the_same_events,
        an_event_is_selected_by_what_it_is_about,
        a_recorder_makes_one_event_and_counts,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_behaviours_on_a_real_kube_apiserver() {
    let Some(assets) = RealApiServer::assets() else {
        println!("skipped: KUBEBUILDER_ASSETS names no etcd and kube-apiserver");
        return;
    };
    let cluster = Cluster::Real(RealApiServer::start(&assets).await.unwrap());
    let failed = all(&cluster).await;
    assert!(failed.is_empty(), "these behave otherwise on a real kube-apiserver: {failed:#?}");
}
