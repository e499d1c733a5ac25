/* Every step of an agent: it validates a configuration file, shows the rules, installs them into a network namespace, checks that
 * they are active, and removes them again.
 *
 *     agent CONFIG.yaml [NAMESPACE]      NAMESPACE is a path such as /var/run/netns/pod; without it, the agent's own
 *
 * Exit status: 0 success, 1 something failed, 2 the configuration is not valid or the usage is wrong.
 */
#include <kumatp.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Says what went wrong and frees the error. A document with many problems has one line for each. */
static int tell(const char *what, kumatp_status status, kumatp_error *error)
{
    fprintf(stderr, "agent: %s: %s (%s)\n", what, kumatp_error_message(error), kumatp_status_name(status));
    kumatp_error_free(error);
    return status == KUMATP_E_CONFIG ? 2 : 1;
}

static void show(kumatp_text *text)
{
    fwrite(kumatp_text_data(text), 1, kumatp_text_len(text), stdout);
    kumatp_text_free(text);
}

static char *read_file(const char *path, size_t *len)
{
    FILE *file = fopen(path, "rb");
    char *data = malloc(1 << 20);
    if (file == NULL || data == NULL) {
        fprintf(stderr, "agent: %s: %s\n", path, strerror(errno));
        if (file != NULL)
            fclose(file);
        free(data);
        return NULL;
    }
    *len = fread(data, 1, 1 << 20, file);
    fclose(file);
    return data;
}

/* Installs, looks and uninstalls; the plan is the caller's. */
static int carry_out(const kumatp_plan *plan, int netns)
{
    kumatp_error *error = NULL;
    kumatp_text *report = NULL;
    kumatp_state *state = NULL;
    kumatp_status status;

    status = kumatp_plan_apply(plan, KUMATP_ENGINE_NETLINK, netns, 0, &report, &error);
    if (status != KUMATP_OK)
        return tell("cannot install", status, error);
    show(report);

    status = kumatp_state_read(plan, netns, 0, &state, &error);
    if (status != KUMATP_OK)
        return tell("cannot look", status, error);
    puts(kumatp_state_kind(state) == KUMATP_STATE_CURRENT ? "state: current" : "state: not what was installed");
    kumatp_state_free(state);

    status = kumatp_uninstall(NULL, KUMATP_ENGINE_NETLINK, netns, 0, &report, &error);
    if (status != KUMATP_OK)
        return tell("cannot uninstall", status, error);
    show(report);

    status = kumatp_state_read(plan, netns, 0, &state, &error);
    if (status != KUMATP_OK)
        return tell("cannot look", status, error);
    puts(kumatp_state_kind(state) == KUMATP_STATE_ABSENT ? "state: absent" : "state: something is left");
    kumatp_state_free(state);
    return 0;
}

static int run(const kumatp_config *config, int netns)
{
    kumatp_error *error = NULL;
    kumatp_facts *facts = NULL;
    kumatp_plan *plan = NULL;
    kumatp_text *rules = NULL;
    kumatp_status status;
    int result;

    status = kumatp_facts_probe(config, KUMATP_ENGINE_NETLINK, netns, &facts, &error);
    if (status != KUMATP_OK)
        return tell("cannot look at the host", status, error);
    status = kumatp_plan_build(config, facts, &plan, &error);
    kumatp_facts_free(facts);
    if (status != KUMATP_OK)
        return tell("cannot plan", status, error);

    status = kumatp_plan_render(plan, KUMATP_SYNTAX_IPTABLES, KUMATP_FAMILY_ALL, 0, &rules, &error);
    if (status == KUMATP_OK) {
        show(rules);
        result = carry_out(plan, netns);
    } else {
        result = tell("cannot show the rules", status, error);
    }
    kumatp_plan_free(plan);
    return result;
}

int main(int argc, char **argv)
{
    kumatp_config *config = NULL;
    kumatp_error *error = NULL;
    kumatp_text *notes = NULL;
    kumatp_status status;
    size_t len = 0;
    char *text;
    int netns = -1;
    int result;

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: agent CONFIG.yaml [NAMESPACE]\n");
        return 2;
    }
    if (kumatp_abi_version() != KUMATP_ABI_VERSION) {
        fprintf(stderr, "agent: libkumatp has ABI %u, and %u is needed\n", kumatp_abi_version(), (unsigned)KUMATP_ABI_VERSION);
        return 1;
    }
    if (argc == 3 && (netns = open(argv[2], O_RDONLY | O_CLOEXEC)) < 0) {
        fprintf(stderr, "agent: %s: %s\n", argv[2], strerror(errno));
        return 1;
    }

    text = read_file(argv[1], &len);
    if (text == NULL)
        return 1;
    status = kumatp_config_parse(text, len, KUMATP_FORMAT_YAML, &config, &error);
    free(text);
    if (status != KUMATP_OK)
        return tell(argv[1], status, error);
    printf("%s is valid\n", argv[1]);
    if (kumatp_config_notes(config, &notes, NULL) == KUMATP_OK)
        show(notes);

    result = run(config, netns);
    kumatp_config_free(config);
    if (netns >= 0)
        close(netns);
    return result;
}
