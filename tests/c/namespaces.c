/* Several threads install, install again, look, and uninstall in several network namespaces at once, on the kernel. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "kumatp.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "check.h"

enum { NAMESPACES = 4 };

struct job {
    pthread_t thread;
    const kumatp_plan *plan;
    uint32_t engine;
    int netns_fd;
};

static void expect(kumatp_status status, kumatp_error *error)
{
    if (status != KUMATP_OK) {
        fprintf(stderr, "%s: %s\n", kumatp_status_name(status), kumatp_error_message(error));
        exit(1);
    }
}

/* A network namespace of its own, made on a thread that ends. */
static void *make_namespace(void *fd)
{
    CHECK(unshare(CLONE_NEWNET) == 0);
    *(int *)fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    CHECK(*(int *)fd >= 0);
    return NULL;
}

static void apply(const struct job *job, int changed)
{
    kumatp_text *report = NULL;
    kumatp_error *error = NULL;
    expect(kumatp_plan_apply(job->plan, job->engine, job->netns_fd, 0, &report, &error), error);
    CHECK(strstr(kumatp_text_data(report), changed ? "\"changed\": true" : "\"changed\": false") != NULL);
    kumatp_text_free(report);
}

static void uninstall(const struct job *job, int changed)
{
    kumatp_text *report = NULL;
    kumatp_error *error = NULL;
    expect(kumatp_uninstall(NULL, job->engine, job->netns_fd, 0, &report, &error), error);
    CHECK(strstr(kumatp_text_data(report), changed ? "\"changed\": true" : "\"changed\": false") != NULL);
    kumatp_text_free(report);
}

static void state(const struct job *job, uint32_t kind, uint32_t engines)
{
    kumatp_state *state = NULL;
    kumatp_error *error = NULL;
    expect(kumatp_state_read(job->plan, job->netns_fd, 0, &state, &error), error);
    if (kumatp_state_kind(state) != kind || kumatp_state_engines(state) != engines) {
        kumatp_text *json = NULL;
        expect(kumatp_state_to_json(state, &json, NULL), NULL);
        fprintf(stderr, "not state %u of engines %u: %s\n", kind, engines, kumatp_text_data(json));
        exit(1);
    }
    kumatp_state_free(state);
}

/* What packets meet, and what the plan would change. */
static void packets(const struct job *job, const char *end, const char *engine, int differs)
{
    kumatp_text *text = NULL;
    kumatp_error *error = NULL;
    char words[64];
    expect(kumatp_installed_explain(job->netns_fd, "tcp 10.1.2.3:443 uid 1000", KUMATP_NUL_TERMINATED, &text, &error), error);
    snprintf(words, sizeof words, "\"end\": \"%s\"", end);
    if (strstr(kumatp_text_data(text), words) == NULL || strstr(kumatp_text_data(text), "\"notes\": []") == NULL) {
        fprintf(stderr, "not a word of %s in: %s\n", words, kumatp_text_data(text));
        exit(1);
    }
    kumatp_text_free(text);
    expect(kumatp_installed_diff(job->plan, job->netns_fd, &text, &error), error);
    snprintf(words, sizeof words, "\"engine\": \"%s\"", engine);
    if (strstr(kumatp_text_data(text), words) == NULL || (strstr(kumatp_text_data(text), "\"traffic\": []") == NULL) != differs) {
        fprintf(stderr, "not by %s, or not what differs: %s\n", engine, kumatp_text_data(text));
        exit(1);
    }
    kumatp_text_free(text);
}

static void *work(void *argument)
{
    const struct job *job = (const struct job *)argument;
    int netlink = job->engine == KUMATP_ENGINE_NETLINK;
    for (int round = 0; round < 2; round++) {
        state(job, KUMATP_STATE_ABSENT, 0);
        if (round == 0)
            packets(job, "delivered", "netlink", 1);
        apply(job, 1);
        state(job, KUMATP_STATE_CURRENT, job->engine);
        if (round == 0)
            packets(job, "redirected", netlink ? "netlink" : "iptables", 0);
        apply(job, !netlink);
        state(job, KUMATP_STATE_CURRENT, job->engine);
        uninstall(job, 1);
        uninstall(job, 0);
    }
    state(job, KUMATP_STATE_ABSENT, 0);
    return NULL;
}

static kumatp_plan *build(const char *text)
{
    kumatp_config *config = NULL;
    kumatp_facts *facts = NULL;
    kumatp_plan *plan = NULL;
    kumatp_error *error = NULL;
    expect(kumatp_config_parse(text, KUMATP_NUL_TERMINATED, KUMATP_FORMAT_YAML, &config, &error), error);
    expect(kumatp_facts_capable_host(5678, &facts, &error), error);
    expect(kumatp_plan_build(config, facts, &plan, &error), error);
    kumatp_config_free(config);
    kumatp_facts_free(facts);
    return plan;
}

int main(void)
{
    struct job jobs[NAMESPACES];
    kumatp_plan *plan = build("redirect: {inbound: {excludePorts: [22]}, dns: {enabled: true, captureAll: true}}");
    kumatp_plan *other = build("redirect: {inbound: {excludePorts: [2222]}}");

    for (int i = 0; i < NAMESPACES; i++) {
        CHECK(pthread_create(&jobs[i].thread, NULL, make_namespace, &jobs[i].netns_fd) == 0);
        CHECK(pthread_join(jobs[i].thread, NULL) == 0);
        jobs[i].plan = plan;
        jobs[i].engine = i == 0 ? KUMATP_ENGINE_IPTABLES : KUMATP_ENGINE_NETLINK;
    }
    for (int i = 0; i < NAMESPACES; i++)
        CHECK(pthread_create(&jobs[i].thread, NULL, work, &jobs[i]) == 0);
    for (int i = 0; i < NAMESPACES; i++)
        CHECK(pthread_join(jobs[i].thread, NULL) == 0);

    /* Another plan is another state, and a dry run says what would go. */
    struct job job = jobs[1];
    apply(&job, 1);
    job.plan = other;
    state(&job, KUMATP_STATE_DRIFTED, KUMATP_ENGINE_NETLINK);
    packets(&job, "redirected", "netlink", 1);
    kumatp_text *report = NULL;
    kumatp_error *error = NULL;
    expect(kumatp_uninstall(NULL, KUMATP_ENGINE_ALL, job.netns_fd, KUMATP_UNINSTALL_DRY_RUN, &report, &error), error);
    CHECK(strstr(kumatp_text_data(report), "would remove the tables ip kuma-mesh and ip6 kuma-mesh") != NULL);
    CHECK(strstr(kumatp_text_data(report), "\"changed\": true") == NULL);
    kumatp_text_free(report);
    job.plan = plan;
    state(&job, KUMATP_STATE_CURRENT, KUMATP_ENGINE_NETLINK);

    /* Without a plan, what is there is what was installed. */
    job.plan = NULL;
    state(&job, KUMATP_STATE_CURRENT, KUMATP_ENGINE_NETLINK);

    /* An engine takes the place of the other one; either is found and removed. */
    job.plan = plan;
    job.engine = KUMATP_ENGINE_IPTABLES;
    apply(&job, 1);
    state(&job, KUMATP_STATE_CURRENT, KUMATP_ENGINE_IPTABLES);
    job.plan = NULL;
    state(&job, KUMATP_STATE_UNCOMPARED, KUMATP_ENGINE_IPTABLES);
    job.engine = KUMATP_ENGINE_ALL;
    uninstall(&job, 1);
    state(&job, KUMATP_STATE_ABSENT, 0);

    expect(kumatp_plan_check(plan, KUMATP_ENGINE_NETLINK, job.netns_fd, 0, &error), error);
    state(&job, KUMATP_STATE_ABSENT, 0);
    CHECK(kumatp_plan_check(plan, KUMATP_ENGINE_IPTABLES, job.netns_fd, 0, NULL) == KUMATP_E_UNSUPPORTED);

    for (int i = 0; i < NAMESPACES; i++)
        CHECK(close(jobs[i].netns_fd) == 0);
    kumatp_plan_free(plan);
    kumatp_plan_free(other);
    puts("passed");
    return 0;
}
