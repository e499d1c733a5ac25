/* Packets through the rules of plans: what comes out, and that nothing wrong with a document can hurt. */
#include "packets.h"

#include <string.h>

#include "check.h"

static const uint32_t ENGINES[] = {KUMATP_ENGINE_NETLINK, KUMATP_ENGINE_IPTABLES};

/* Checks that a text has these parts, in this order, and frees it. */
static void has(kumatp_text *text, const char *first, const char *second)
{
    const char *at = strstr(kumatp_text_data(text), first);
    if (at == NULL || strstr(at, second) == NULL) {
        fprintf(stderr, "not a word of %s and %s in:\n%s\n", first, second, kumatp_text_data(text));
        exit(1);
    }
    kumatp_text_free(text);
}

static void wrong(const kumatp_plan *plan, const char *document, const char *field, const char *says)
{
    kumatp_error *error = NULL;
    kumatp_text *const before = (kumatp_text *)&error;
    kumatp_text *text = before;
    CHECK(kumatp_plan_simulate(plan, KUMATP_ENGINE_NETLINK, document, KUMATP_NUL_TERMINATED, &text, &error) == KUMATP_E_CONFIG);
    CHECK(text == before && strcmp(kumatp_error_field(error), field) == 0);
    if (strstr(kumatp_error_message(error), says) == NULL) {
        fprintf(stderr, "%s: not a word of %s\n", kumatp_error_message(error), says);
        exit(1);
    }
    kumatp_error_free(error);
}

/* The next of a row of numbers that is the same in every run. */
static uint32_t next(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

/* Documents that are nearly right. */
static void nearly(const kumatp_plan *plan, int times)
{
    static const char good[] =
        "[\"tcp 10.1.2.3:443 uid 1000\", {\"direction\": \"inbound\", \"protocol\": \"udp\", \"destination\": \"fd00::5\", "
        "\"destinationPort\": 53, \"source\": \"fd00::6\", \"inInterface\": \"eth0\", \"tracking\": \"new\"}]";
    static const char splices[] = "\"{}[],:\\0-1.ut \n\xc3\xa9\xff";
    uint32_t seed = 1;
    int answered = 0;

    for (int i = 0; i < times; i++) {
        char document[sizeof good];
        kumatp_text *text = NULL;
        kumatp_error *error = NULL;
        size_t length = sizeof good - 1;
        memcpy(document, good, sizeof good);
        for (uint32_t changes = next(&seed) % 4; changes > 0; changes--)
            document[next(&seed) % length] = splices[next(&seed) % (sizeof splices - 1)];
        if (next(&seed) % 8 == 0)
            length = next(&seed) % length;
        kumatp_status status = i % 2 == 0
            ? kumatp_plan_simulate(plan, ENGINES[i % 4 / 2], document, length, &text, &error)
            : kumatp_plan_explain(plan, ENGINES[i % 4 / 2], document, length, &text, &error);
        if (status == KUMATP_OK) {
            CHECK(text != NULL && error == NULL && kumatp_text_data(text)[0] == '[');
            answered++;
        } else {
            CHECK(text == NULL && (status == KUMATP_E_CONFIG || status == KUMATP_E_ARGUMENT));
            CHECK(strncmp(kumatp_error_field(error), "packet", 6) == 0 && strlen(kumatp_error_message(error)) > 10);
            kumatp_error_free(error);
        }
        kumatp_text_free(text);
    }
    CHECK(answered > times / 10 && answered < times - times / 10);
}

static void large(const kumatp_plan *plan, size_t size)
{
    static const char *const repeated[] = {"[", "{\"uid\":", "\"", "tcp ", "[1,"};
    kumatp_error *error = NULL;
    kumatp_text *text = NULL;
    char *document = (char *)malloc(size);
    CHECK(document != NULL);
    for (size_t i = 0; i < sizeof repeated / sizeof *repeated; i++) {
        for (size_t at = 0; at < size; at++)
            document[at] = repeated[i][at % strlen(repeated[i])];
        CHECK(kumatp_plan_explain(plan, KUMATP_ENGINE_NETLINK, document, size, &text, &error) == KUMATP_E_CONFIG);
        CHECK(text == NULL && strlen(kumatp_error_message(error)) < 100000);
        kumatp_error_free(error);
        error = NULL;
    }
    free(document);
}

/* Rules that are text, of a plan and of nobody. */
static void saved(const kumatp_plan *plan, const kumatp_plan *other, int cheap)
{
    static const char *const both = "[\"tcp 10.1.2.3:443 uid 1000\", \"inbound tcp [fd00::5]:80\"]";
    kumatp_error *error = NULL;
    kumatp_text *rules = NULL;
    kumatp_text *text = NULL;

    CHECK(kumatp_plan_render(plan, KUMATP_SYNTAX_IPTABLES, KUMATP_FAMILY_ALL, 0, &rules, NULL) == KUMATP_OK);
    CHECK(kumatp_save_explain(kumatp_text_data(rules), kumatp_text_len(rules), both, KUMATP_NUL_TERMINATED, &text, NULL) == KUMATP_OK);
    has(text, "\"port\": 15001", "\"port\": 15006");
    CHECK(kumatp_save_diff(plan, kumatp_text_data(rules), KUMATP_NUL_TERMINATED, &text, NULL) == KUMATP_OK);
    has(text, "\"removed\": []", "\"traffic\": []");
    if (cheap) {
        CHECK(kumatp_save_diff(other, kumatp_text_data(rules), kumatp_text_len(rules), &text, NULL) == KUMATP_OK);
        has(text, "\"rule\": \"-p tcp --dport 22 -j RETURN\"", "\"traffic\": [");
    }
    kumatp_text_free(rules);

    CHECK(kumatp_save_explain("*nat\nCOMMIT\n", KUMATP_NUL_TERMINATED, both, KUMATP_NUL_TERMINATED, &text, &error) == KUMATP_E_CONFIG);
    CHECK(strcmp(kumatp_error_field(error), "packets[1]") == 0);
    CHECK(strstr(kumatp_error_message(error), "ip6tables-save") != NULL);
    kumatp_error_free(error);
    error = NULL;
    CHECK(kumatp_save_diff(plan, "-A OUTPUT", 9, &text, &error) == KUMATP_E_CONFIG);
    CHECK(strcmp(kumatp_error_field(error), "line 1") == 0);
    kumatp_error_free(error);
    CHECK(kumatp_save_translate("*nat\n-A OUTPUT -j SNAT\nCOMMIT\n", KUMATP_NUL_TERMINATED, KUMATP_SYNTAX_JSON, &text, NULL) == KUMATP_OK);
    has(text, "\"parts\": {", "\"name\": \"SNAT\"");
}

void packets(const kumatp_plan *plan, const kumatp_plan *other, size_t size)
{
    kumatp_text *text = NULL;
    kumatp_text *edges = NULL;

    /* Where every step costs, a part of it is enough. */
    const int cheap = size > 1 << 20;
    for (int i = 0; i < 2; i++) {
        CHECK(kumatp_plan_simulate(plan, ENGINES[i], "tcp 10.1.2.3:443 uid 1000", KUMATP_NUL_TERMINATED, &text, NULL) == KUMATP_OK);
        has(text, "\"end\": \"redirected\"", "\"port\": 15001");
        CHECK(kumatp_plan_explain(plan, ENGINES[i], "\"inbound tcp [fd00::5]:80\"", KUMATP_NUL_TERMINATED, &text, NULL) == KUMATP_OK);
        has(text, "\"summary\": \"A TCP connection", "\"arrival\": \"translatedBack\"");

        /* What the rules tell apart goes straight back. */
        CHECK(kumatp_plan_edges(plan, ENGINES[i], &edges, NULL) == KUMATP_OK);
        CHECK(kumatp_plan_simulate(plan, ENGINES[i], kumatp_text_data(edges), kumatp_text_len(edges), &text, NULL) == KUMATP_OK);
        has(text, "\"trace\": [", "\"verdict\": {");
        kumatp_text_free(edges);

        if (cheap || i == 0) {
            CHECK(kumatp_plan_diff(plan, other, ENGINES[i], &text, NULL) == KUMATP_OK);
            has(text, "\"added\": [", "\"traffic\": [");
        }
    }
    CHECK(kumatp_plan_simulate(plan, KUMATP_ENGINE_NETLINK, "[]", 2, &text, NULL) == KUMATP_OK);
    CHECK(strcmp(kumatp_text_data(text), "[]\n") == 0);
    kumatp_text_free(text);

    saved(plan, other, cheap);
    wrong(plan, "", "packet", "tcp 10.1.2.3:443");
    wrong(plan, "tcp 10.1.2.3:70000", "packet", "'70000'");
    wrong(plan, "[\"icmp 10.1.2.3\", {\"protocol\": \"tcp\", \"uid\": -1}]", "packets[1].uid", "'-1'");
    wrong(plan, "[\"icmp 10.1.2.3\"", "packets: line 1 column 16", "JSON");
    nearly(plan, cheap ? 400 : 60);
    large(plan, cheap ? 1 << 20 : size);
}
