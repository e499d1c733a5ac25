/* Every part of the ABI that needs no kernel, from C and C++: each status at least once, and input that is wrong in every way.
 *
 * The arguments are a directory with the programs conflict/iptables{,-save,-restore} and failing/iptables{,-save,-restore},
 * and the size of large documents in bytes.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "kumatp.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "again.h"
#include "check.h"
#include "packets.h"
#include "workloads.h"

#define NUL KUMATP_NUL_TERMINATED

static int seen[100];

/* Checks what holds for every failed call, and frees the error. */
static void failed(kumatp_status status, kumatp_status expected, kumatp_error **slot, const char *field, const char *says)
{
    kumatp_error *error = *slot;
    if (status != expected) {
        fprintf(stderr, "%s, not %s: %s\n", kumatp_status_name(status), kumatp_status_name(expected),
                kumatp_error_message(error));
        exit(1);
    }
    CHECK(error != NULL);
    CHECK(kumatp_error_status(error) == status);
    if (strstr(kumatp_error_message(error), says) == NULL) {
        fprintf(stderr, "%s: %s: not a word of %s\n", kumatp_status_name(status), kumatp_error_message(error), says);
        exit(1);
    }
    if (field == NULL)
        CHECK(kumatp_error_field(error) == NULL);
    else
        CHECK(kumatp_error_field(error) != NULL && strcmp(kumatp_error_field(error), field) == 0);

    kumatp_text *json = NULL;
    CHECK(kumatp_error_to_json(error, &json, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(json), kumatp_status_name(status)) != NULL);
    kumatp_text_free(json);
    kumatp_error_free(error);
    *slot = NULL;
    seen[status] = 1;
}

static kumatp_config *parse(const char *text)
{
    kumatp_config *config = NULL;
    kumatp_error *error = NULL;
    if (kumatp_config_parse(text, NUL, KUMATP_FORMAT_JSON, &config, &error) != KUMATP_OK) {
        fprintf(stderr, "%s: %s\n", text, kumatp_error_message(error));
        exit(1);
    }
    CHECK(error == NULL);
    return config;
}

static kumatp_facts *capable_host(void)
{
    kumatp_facts *facts = NULL;
    CHECK(kumatp_facts_capable_host(5678, &facts, NULL) == KUMATP_OK);
    return facts;
}

static kumatp_plan *build(const char *text)
{
    kumatp_config *config = parse(text);
    kumatp_facts *facts = capable_host();
    kumatp_plan *plan = NULL;
    CHECK(kumatp_plan_build(config, facts, &plan, NULL) == KUMATP_OK);
    kumatp_config_free(config);
    kumatp_facts_free(facts);
    return plan;
}

static void versions(void)
{
    CHECK(kumatp_abi_version() == KUMATP_ABI_VERSION);
    CHECK(strchr(kumatp_version(), '.') != NULL);
    CHECK(strcmp(again(KUMATP_E_CONFLICT), "KUMATP_E_CONFLICT") == 0);
    CHECK(strcmp(kumatp_status_name(-1), "unknown status") == 0);
    seen[KUMATP_OK] = 1;
}

/* Numbers are part of the ABI as much as names are. */
static void numbers(void)
{
    CHECK(KUMATP_OK == 0 && KUMATP_E_ARGUMENT == 1 && KUMATP_E_CONFIG == 2 && KUMATP_E_FACTS == 3);
    CHECK(KUMATP_E_UNSUPPORTED == 4 && KUMATP_E_PERMISSION == 5 && KUMATP_E_CONFLICT == 6 && KUMATP_E_OS == 7);
    CHECK(KUMATP_E_PROGRAM == 8 && KUMATP_E_INTERNAL == 99);
    CHECK(KUMATP_FORMAT_JSON == 1 && KUMATP_FORMAT_YAML == 2);
    CHECK(KUMATP_ENGINE_NETLINK == 1 && KUMATP_ENGINE_IPTABLES == 2 && KUMATP_ENGINE_ALL == 0xffffffffu);
    CHECK(KUMATP_SYNTAX_IPTABLES == 1 && KUMATP_SYNTAX_NFT == 2 && KUMATP_SYNTAX_FIREWALLD == 3);
    CHECK(KUMATP_SYNTAX_JSON == 4 && KUMATP_SYNTAX_NATIVE == 5);
    CHECK(KUMATP_SYNTAX_MERMAID == 6 && KUMATP_SYNTAX_DOT == 7);
    CHECK(KUMATP_FAMILY_ALL == 0 && KUMATP_FAMILY_IPV4 == 4 && KUMATP_FAMILY_IPV6 == 6);
    CHECK(KUMATP_STATE_ABSENT == 0 && KUMATP_STATE_CURRENT == 1 && KUMATP_STATE_DRIFTED == 2 && KUMATP_STATE_UNCOMPARED == 3);
    CHECK(KUMATP_RENDER_LONG == 1 && KUMATP_APPLY_REPLACE_LEGACY == 1 && KUMATP_UNINSTALL_DRY_RUN == 1 && KUMATP_MAX_TEXT == 64 * 1024 * 1024);
}

static void arguments(void)
{
    kumatp_error *error = NULL;
    kumatp_config *const before = (kumatp_config *)&error;
    kumatp_config *config = before;

    failed(kumatp_config_parse(NULL, 1, KUMATP_FORMAT_JSON, &config, &error), KUMATP_E_ARGUMENT, &error, "text", "NULL");
    CHECK(config == before);
    failed(kumatp_config_parse("{}", 2, KUMATP_FORMAT_JSON, NULL, &error), KUMATP_E_ARGUMENT, &error, "out", "NULL");
    failed(kumatp_config_parse("{}", 2, 77, &config, &error), KUMATP_E_ARGUMENT, &error, "format", "77");
    failed(kumatp_config_parse("\xc3(", 2, KUMATP_FORMAT_JSON, &config, &error), KUMATP_E_ARGUMENT, &error, "text", "0xc3");
    CHECK(config == before);
    CHECK(kumatp_config_parse(NULL, 1, KUMATP_FORMAT_JSON, &config, NULL) == KUMATP_E_ARGUMENT);

    /* Whoever touches this page is ended by the kernel. */
    char *none = (char *)mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(none != MAP_FAILED);
    failed(kumatp_config_parse(none, KUMATP_MAX_TEXT + 1, KUMATP_FORMAT_JSON, &config, &error), KUMATP_E_ARGUMENT, &error,
           "text", "67108865");
    failed(kumatp_config_parse(none, SIZE_MAX - 1, KUMATP_FORMAT_JSON, &config, &error), KUMATP_E_ARGUMENT, &error, "text",
           "67108864");
    config = NULL;
    CHECK(kumatp_config_parse(none, 0, KUMATP_FORMAT_JSON, &config, &error) == KUMATP_OK);
    CHECK(munmap(none, 4096) == 0);

    /* A success leaves the error alone. */
    CHECK(config != NULL);
    kumatp_error *const mark = (kumatp_error *)&config;
    error = mark;
    kumatp_text *json = NULL;
    CHECK(kumatp_config_to_json(config, &json, &error) == KUMATP_OK && error == mark);
    CHECK(kumatp_text_data(json)[kumatp_text_len(json)] == '\0');
    CHECK(strlen(kumatp_text_data(json)) == kumatp_text_len(json));
    kumatp_text_free(json);
    kumatp_config_free(config);

    kumatp_plan *plan = build("");
    kumatp_text *text = NULL;
    failed(kumatp_plan_apply(plan, KUMATP_ENGINE_NETLINK, -7, 0, &text, &error), KUMATP_E_ARGUMENT, &error, "netns_fd", "-7");
    failed(kumatp_plan_apply(plan, KUMATP_ENGINE_NETLINK, 99999, 0, &text, &error), KUMATP_E_ARGUMENT, &error, "netns_fd", "99999");
    failed(kumatp_plan_apply(plan, KUMATP_ENGINE_ALL, -1, 0, &text, &error), KUMATP_E_ARGUMENT, &error, "engine", "4294967295");
    failed(kumatp_plan_apply(plan, KUMATP_ENGINE_NETLINK, -1, 1u << 31, &text, &error), KUMATP_E_ARGUMENT, &error, "flags", "0x80000000");
    kumatp_plan_free(plan);
}

static void documents(size_t size)
{
    kumatp_error *error = NULL;
    kumatp_config *config = NULL;
    kumatp_config *for_kuma = NULL;
    kumatp_text *text = NULL;

    failed(kumatp_config_parse("{\"redirect\": {\"inbound\": {\"port\": 70000}}}", NUL, KUMATP_FORMAT_JSON, &config, &error),
           KUMATP_E_CONFIG, &error, "redirect.inbound.port", "'70000'");
    failed(kumatp_config_parse("{", NUL, KUMATP_FORMAT_JSON, &config, &error), KUMATP_E_CONFIG, &error, "document: line 1 column 1",
           "JSON");
    failed(kumatp_config_parse("", 1, KUMATP_FORMAT_JSON, &config, &error), KUMATP_E_CONFIG, &error, "document: line 1 column 1", "");

    /* Nested more deeply than any document of ours, in both languages. */
    char *large = (char *)malloc(size + 1);
    CHECK(large != NULL);
    memset(large, '[', size);
    large[size] = '\0';
    for (uint32_t format = KUMATP_FORMAT_JSON; format <= KUMATP_FORMAT_YAML; format++) {
        kumatp_status status = kumatp_config_parse(large, size, format, &config, &error);
        CHECK(status == KUMATP_E_CONFIG && error != NULL && strlen(kumatp_error_message(error)) < 4096);
        kumatp_error_free(error);
        error = NULL;
    }
    kumatp_facts *facts = NULL;
    failed(kumatp_facts_parse(large, size, &facts, &error), KUMATP_E_FACTS, &error, NULL, "facts: ");

    /* Many ports are valid. */
    size_t length = (size_t)sprintf(large, "{\"redirect\": {\"inbound\": {\"excludePorts\": \"1");
    while (length < size - 20) {
        memcpy(large + length, ",12345", 6);
        length += 6;
    }
    length += (size_t)sprintf(large + length, "\"}}}");
    CHECK(kumatp_config_parse(large, length, KUMATP_FORMAT_JSON, &config, NULL) == KUMATP_OK);
    CHECK(kumatp_config_to_json(config, &text, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(text), "12345") != NULL);
    kumatp_text_free(text);
    kumatp_config_free(config);
    free(large);

    /* A document that is not valid is a good answer here. */
    CHECK(kumatp_config_check("redirect: {dns: {port: 0x}}", NUL, KUMATP_FORMAT_YAML, &text, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(text), "\"valid\": false") != NULL);
    CHECK(strstr(kumatp_text_data(text), "redirect.dns.port") != NULL);
    kumatp_text_free(text);

    /* What the sidecar's own program refuses of a document that is valid here. */
    CHECK(kumatp_config_check("ipFamilyMode: required", NUL, KUMATP_FORMAT_YAML, &text, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(text), "\"valid\": true") != NULL && strstr(kumatp_text_data(text), "kuma-dp") != NULL);
    kumatp_text_free(text);
    CHECK(kumatp_config_parse("ipFamilyMode: required", NUL, KUMATP_FORMAT_YAML, &config, NULL) == KUMATP_OK);
    CHECK(kumatp_config_for_kuma(config, &for_kuma, NULL) == KUMATP_OK);
    CHECK(kumatp_config_to_yaml(for_kuma, &text, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(text), "ipFamilyMode: dualstack") != NULL);
    kumatp_text_free(text);
    kumatp_config_free(for_kuma);
    kumatp_config_free(config);

    CHECK(kumatp_config_keys(&text, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(text), "--redirect-dns-port") != NULL);
    kumatp_text_free(text);
}

static void facts(void)
{
    kumatp_error *error = NULL;
    kumatp_plan *plan = NULL;
    kumatp_config *config = parse("{\"redirect\": {\"dns\": {\"enabled\": true}}}");
    kumatp_facts *host = capable_host();
    failed(kumatp_plan_build(config, host, &plan, &error), KUMATP_E_FACTS, &error, "resolvers", "name servers");
    CHECK(plan == NULL);

    kumatp_text *servers = NULL;
    CHECK(kumatp_resolvers_parse("/r", NUL, "nameserver 192.0.2.53\n", NUL, &servers, NULL) == KUMATP_OK);
    char document[512];
    CHECK(snprintf(document, sizeof document, "{\"sidecarUid\": \"5678\", \"resolvers\": %s}", kumatp_text_data(servers)) > 0);
    kumatp_text_free(servers);
    kumatp_facts_free(host);
    CHECK(kumatp_facts_parse(document, NUL, &host, NULL) == KUMATP_OK);
    CHECK(kumatp_plan_build(config, host, &plan, NULL) == KUMATP_OK);
    kumatp_facts_free(host);
    kumatp_config_free(config);

    kumatp_text *text = NULL;
    CHECK(kumatp_plan_render(plan, KUMATP_SYNTAX_IPTABLES, KUMATP_FAMILY_IPV4, 0, &text, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(text), "-d 192.0.2.53") != NULL);
    kumatp_text_free(text);
    failed(kumatp_plan_render(plan, KUMATP_SYNTAX_JSON, KUMATP_FAMILY_IPV4, 0, &text, &error), KUMATP_E_UNSUPPORTED, &error,
           NULL, "KUMATP_FAMILY_ALL");
    CHECK(kumatp_plan_notes(plan, &text, NULL) == KUMATP_OK && kumatp_text_data(text)[0] == '[');
    kumatp_text_free(text);
    kumatp_plan_free(plan);

    /* Probing reads only, and an ordinary user may. */
    config = parse("{\"kumaDPUser\": \"5678\"}");
    CHECK(kumatp_facts_probe(config, KUMATP_ENGINE_NETLINK, -1, &host, NULL) == KUMATP_OK);
    CHECK(kumatp_facts_to_json(host, &text, NULL) == KUMATP_OK);
    CHECK(strstr(kumatp_text_data(text), "\"loopback\": \"lo\"") != NULL);
    kumatp_text_free(text);
    kumatp_facts_free(host);
    kumatp_config_free(config);
}

static void system_errors(void)
{
    kumatp_error *error = NULL;
    kumatp_text *text = NULL;
    kumatp_plan *plan = build("");
    int fd = open("/dev/null", O_RDONLY);
    CHECK(fd >= 0);
    kumatp_status status = kumatp_plan_apply(plan, KUMATP_ENGINE_NETLINK, fd, 0, &text, &error);
    CHECK(kumatp_error_errno(error) == EINVAL);
    failed(status, KUMATP_E_OS, &error, NULL, "network namespace");
    CHECK(fcntl(fd, F_GETFD) >= 0); /* The library closes what is its own only. */
    CHECK(close(fd) == 0);

    /* Without the privilege, whoever runs this test. */
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (getuid() == 0)
            CHECK(setgid(65534) == 0 && setuid(65534) == 0);
        status = kumatp_plan_apply(plan, KUMATP_ENGINE_NETLINK, -1, 0, &text, &error);
        failed(status, KUMATP_E_PERMISSION, &error, NULL, "CAP_NET_ADMIN");
        kumatp_plan_free(plan);
        _exit(0);
    }
    int ended = -1;
    CHECK(waitpid(child, &ended, 0) == child && ended == 0);
    seen[KUMATP_E_PERMISSION] = 1;
    kumatp_plan_free(plan);
}

static void programs(const char *directory)
{
    const char *const format =
        "{\"ipFamilyMode\": \"ipv4\", \"retry\": {\"maxRetries\": 0}, \"iptablesExecutables\": "
        "{\"iptables\": \"%s/%s/iptables\", \"iptables-save\": \"%s/%s/iptables-save\", "
        "\"iptables-restore\": \"%s/%s/iptables-restore\"}}";
    char document[4096];
    kumatp_error *error = NULL;
    kumatp_text *text = NULL;

    const char *kind = "conflict";
    snprintf(document, sizeof document, format, directory, kind, directory, kind, directory, kind);
    kumatp_config *config = parse(document);
    failed(kumatp_uninstall(config, KUMATP_ENGINE_IPTABLES, -1, KUMATP_UNINSTALL_DRY_RUN, &text, &error), KUMATP_E_CONFLICT,
           &error, NULL, "SOMEONE");
    kumatp_config_free(config);

    kind = "failing";
    snprintf(document, sizeof document, format, directory, kind, directory, kind, directory, kind);
    kumatp_plan *plan = build(document);
    failed(kumatp_plan_apply(plan, KUMATP_ENGINE_IPTABLES, -1, 0, &text, &error), KUMATP_E_PROGRAM, &error, NULL, "no such weather");
    kumatp_plan_free(plan);
}

static void simulation(size_t size)
{
    kumatp_plan *plan = build("");
    kumatp_plan *other = build("{\"redirect\": {\"inbound\": {\"excludePorts\": [22]}}}");
    packets(plan, other, size);
    kumatp_plan_free(plan);
    kumatp_plan_free(other);
}

/* The library asks for random numbers once a thread, where it first needs them. A system that refuses is something that
 * nobody has prepared for: it has to end in KUMATP_E_INTERNAL, and not in an abort. */
static volatile int no_random;

ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
    if (no_random) {
        errno = EIO;
        return -1;
    }
    return (ssize_t)syscall(SYS_getrandom, buffer, length, flags);
}

static void *parse_without_random(void *unused)
{
    kumatp_error *error = NULL;
    kumatp_config *config = NULL;
    no_random = 1;
    kumatp_status status = kumatp_config_parse("{}", NUL, KUMATP_FORMAT_JSON, &config, &error);
    no_random = 0;
    failed(status, KUMATP_E_INTERNAL, &error, NULL, "bug in kumatp");
    CHECK(config == NULL);
    return unused;
}

/* Handles are shared without a lock. */
static void *render_often(void *plan)
{
    for (int i = 0; i < 20; i++) {
        kumatp_text *text = NULL;
        CHECK(kumatp_plan_render((const kumatp_plan *)plan, KUMATP_SYNTAX_NFT, KUMATP_FAMILY_ALL, 0, &text, NULL) == KUMATP_OK);
        CHECK(kumatp_text_len(text) > 1000);
        kumatp_text_free(text);
    }
    return NULL;
}

static void threads(void)
{
    pthread_t thread[8];
    CHECK(pthread_create(&thread[0], NULL, parse_without_random, NULL) == 0 && pthread_join(thread[0], NULL) == 0);
    kumatp_plan *plan = build("");
    for (int i = 0; i < 8; i++)
        CHECK(pthread_create(&thread[i], NULL, render_often, plan) == 0);
    for (int i = 0; i < 8; i++)
        CHECK(pthread_join(thread[i], NULL) == 0);
    kumatp_plan_free(plan);
}

static void nothing(void)
{
    kumatp_config_free(NULL);
    kumatp_dataplane_free(NULL);
    kumatp_facts_free(NULL);
    kumatp_plan_free(NULL);
    kumatp_state_free(NULL);
    kumatp_text_free(NULL);
    kumatp_error_free(NULL);
    CHECK(kumatp_error_status(NULL) == KUMATP_OK && kumatp_error_errno(NULL) == 0);
    CHECK(kumatp_error_message(NULL)[0] == '\0' && kumatp_error_field(NULL) == NULL);
    CHECK(kumatp_text_data(NULL)[0] == '\0' && kumatp_text_len(NULL) == 0);
    CHECK(kumatp_state_kind(NULL) == KUMATP_STATE_ABSENT && kumatp_state_engines(NULL) == 0);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    versions();
    numbers();
    nothing();
    arguments();
    documents(strtoul(argv[2], NULL, 10));
    facts();
    simulation(strtoul(argv[2], NULL, 10));
    workloads(strtoul(argv[2], NULL, 10));
    system_errors();
    programs(argv[1]);
    threads();
    for (int status = 0; status < 100; status++) {
        if (seen[status] != (strcmp(kumatp_status_name(status), "unknown status") != 0)) {
            fprintf(stderr, "%s was not provoked\n", kumatp_status_name(status));
            return 1;
        }
    }
    puts("passed");
    return 0;
}
