"""The page's words in English and Portuguese, chosen by what the browser asks for. Pure."""

from __future__ import annotations

from collections.abc import Mapping

LANGUAGES = ("en", "pt")

_WORDS: Mapping[str, tuple[str, str]] = {
    "title": ("Fi.V App instances", "Instâncias Fi.V App"),
    "skip": ("Skip to content", "Ir para o conteúdo"),
    "fleet": ("Fleet", "Frota"),
    "api": ("API", "API"),
    "sign_in": ("Sign in", "Entrar"),
    "sign_out": ("Sign out", "Sair"),
    "sign_in_lead": (
        "With an administrator's account of a Fi.V App instance.",
        "Com a conta de um administrador de uma instância Fi.V App.",
    ),
    "email": ("Email", "E-mail"),
    "password": ("Password", "Senha"),
    "instance": ("Instance", "Instância"),
    "add_instance": ("Sign in to another instance", "Entrar em outra instância"),
    "login_failed": ("Email or password is wrong.", "E-mail ou senha incorretos."),
    "login_limited": (
        "Too many failed attempts. Wait 15 minutes, then try again.",
        "Muitas tentativas sem sucesso. Aguarde 15 minutos e tente novamente.",
    ),
    "admin_only": ("Only administrators may enter.", "Apenas administradores podem entrar."),
    "instance_unknown": ("No such instance is served here.", "Essa instância não é servida aqui."),
    "unavailable": (
        "The instance's database does not answer now. Try again in a moment.",
        "O banco de dados da instância não responde agora. Tente novamente em instantes.",
    ),
    "sign_in_at": ("Sign in at", "Entrar por"),
    "sign_in_instance": ("As an administrator of one instance", "Como administrador de uma instância"),
    "signed_in": ("You are signed in.", "Você entrou."),
    "signed_out": ("You are signed out.", "Você saiu."),
    "go_on": ("Go on", "Continuar"),
    "viewer": ("viewer", "leitor"),
    "operator": ("operator", "operador"),
    "operator_only": ("Only operators may check.", "Apenas operadores podem verificar."),
    "sso_refused": (
        "This sign-in is not valid. Start again.",
        "Esta entrada não é válida. Comece novamente.",
    ),
    "sso_no_role": (
        "None of your groups has a role here. Ask the people who run this server.",
        "Nenhum dos seus grupos tem um papel aqui. Fale com quem administra este servidor.",
    ),
    "sso_unavailable": (
        "The identity provider does not answer now. Try again in a moment.",
        "O provedor de identidade não responde agora. Tente novamente em instantes.",
    ),
    "filter_needs": ("Needs somebody", "Precisa de alguém"),
    "filter_status": ("Status", "Status"),
    "filter_billing": ("Billing", "Cobrança"),
    "filter_access": ("Access", "Acesso"),
    "filter_drift": ("Drift", "Desvios"),
    "filter_former": ("No longer declared", "Não mais declarados"),
    "filter_read": ("Reading", "Leitura"),
    "yes": ("Yes", "Sim"),
    "no": ("No", "Não"),
    "readable": ("Read", "Lida"),
    "shown": ("shown", "exibidas"),
    "being_read": ("being read", "em leitura"),
    "pending": ("Not read yet", "Ainda não lida"),
    "source": ("Manifest", "Manifesto"),
    "commands": ("Commands", "Comandos"),
    "commands_hint": (
        "What writes is run where the manifests are. Nothing is written here.",
        "O que grava é executado onde estão os manifestos. Nada é gravado aqui.",
    ),
    "search": ("Search instances", "Buscar instâncias"),
    "search_hint": ("Name, environment or label", "Nome, ambiente ou rótulo"),
    "filter": ("Filter", "Filtrar"),
    "all": ("All", "Todas"),
    "status": ("Status", "Status"),
    "billing": ("Billing", "Cobrança"),
    "access": ("Access", "Acesso"),
    "drift": ("Drift", "Desvios"),
    "last_check": ("Last check", "Última verificação"),
    "response_time": ("Response time", "Tempo de resposta"),
    "environment": ("Environment", "Ambiente"),
    "production": ("production", "produção"),
    "development": ("development", "desenvolvimento"),
    "active": ("Active", "Ativa"),
    "suspended": ("Suspended", "Suspensa"),
    "pending_payment": ("Payment pending", "Pagamento pendente"),
    "paid": ("Paid", "Em dia"),
    "overdue": ("Overdue", "Em atraso"),
    "unknown": ("Unknown", "Desconhecido"),
    "locked": ("Locked", "Bloqueado"),
    "open": ("Open", "Liberado"),
    "never": ("Never", "Nunca"),
    "none": ("None", "Nenhum"),
    "instances": ("Instances", "Instâncias"),
    "payment_due": ("Payment due", "Pagamento devido"),
    "utc": ("Times are UTC", "Horários em UTC"),
    "not_served": ("Not served", "Não servida"),
    "unreadable": ("Could not be read", "Não foi possível ler"),
    "not_applied": ("Not applied yet", "Ainda não aplicada"),
    "no_match": ("No instance matches the filter.", "Nenhuma instância corresponde ao filtro."),
    "changes": ("changes", "mudanças"),
    "of_them_drift": ("drift among them", "desvios entre elas"),
    "details": ("Details", "Detalhes"),
    "features": ("Features", "Recursos"),
    "feature_on": ("on", "ligado"),
    "feature_off": ("off", "desligado"),
    "check_interval": ("Check interval", "Intervalo de verificação"),
    "minutes": ("minutes", "minutos"),
    "connect_url": ("Fi.V Connect", "Fi.V Connect"),
    "last_run": ("Last run", "Última execução"),
    "timeline": ("Status checks over time", "Verificações ao longo do tempo"),
    "timeline_hint": (
        "Response time of Fi.V Connect, check by check",
        "Tempo de resposta do Fi.V Connect, a cada verificação",
    ),
    "checks": ("Status checks", "Verificações de status"),
    "when": ("When", "Quando"),
    "type": ("Type", "Tipo"),
    "result": ("Result", "Resultado"),
    "failed": ("Failed", "Falhou"),
    "ok": ("OK", "OK"),
    "diff": ("Current diff", "Diferenças atuais"),
    "diff_hint": (
        "What fivrec apply would change now. Nothing is written here.",
        "O que fivrec apply mudaria agora. Nada é gravado aqui.",
    ),
    "in_sync": ("In sync with the manifest.", "Em sincronia com o manifesto."),
    "conflicts": ("Conflicts with what is expected of Connect", "Conflitos com o que se espera do Connect"),
    "expected": ("expected", "esperado"),
    "observed": ("observed", "observado"),
    "without_connect": (
        "Fi.V Connect did not answer in time: compared without its part.",
        "O Fi.V Connect não respondeu a tempo: comparado sem a parte dele.",
    ),
    "create": ("create", "criar"),
    "update": ("update", "atualizar"),
    "deactivate": ("deactivate", "desativar"),
    "remove": ("remove", "remover"),
    "cause_new": ("new", "novo"),
    "cause_intent": ("intent", "intenção"),
    "cause_drift": ("drift", "desvio"),
    "former": ("No longer declared", "Não mais declarados"),
    "applied": ("applied", "aplicado em"),
    "from_manifest": ("from the manifest", "do manifesto"),
    "from_connect": ("from Fi.V Connect", "do Fi.V Connect"),
    "history": ("Audit history", "Histórico de auditoria"),
    "verified": ("Chain verified", "Cadeia verificada"),
    "entries": ("entries", "registros"),
    "broken": ("Chain broken", "Cadeia violada"),
    "unsigned": ("Chain whole, signatures not checked", "Cadeia íntegra, assinaturas não verificadas"),
    "not_verified": (
        "Not verified here: run fivrec history --verify",
        "Não verificada aqui: execute fivrec history --verify",
    ),
    "actor": ("Actor", "Autor"),
    "action": ("Action", "Ação"),
    "resource": ("Resource", "Item"),
    "cause": ("Cause", "Causa"),
    "plans": ("Plans", "Planos"),
    "plan": ("Plan", "Plano"),
    "in_database": ("In the database", "No banco de dados"),
    "at_connect": ("At Fi.V Connect", "No Fi.V Connect"),
    "limits": ("Limits", "Limites"),
    "users": ("users", "usuários"),
    "conversations": ("conversations", "conversas"),
    "inactive": ("inactive", "inativo"),
    "alike": ("Same", "Iguais"),
    "different": ("Different", "Diferentes"),
    "absent": ("absent", "ausente"),
    "connect_silent": ("not known now", "não se sabe agora"),
    "month": ("month", "mês"),
    "notice_suspended": ("Instance suspended: access is locked", "Instância suspensa: acesso bloqueado"),
    "notice_suspended_text": (
        "Fi.V Connect has suspended this instance. Settle it in the Fi.V Connect panel, then check again.",
        "O Fi.V Connect suspendeu esta instância. Regularize no painel Fi.V Connect e verifique novamente.",
    ),
    "notice_pending": ("Payment pending", "Pagamento pendente"),
    "notice_pending_text": (
        "A payment is due. The instance goes on working meanwhile.",
        "Há um pagamento aguardado. A instância continua funcionando enquanto isso.",
    ),
    "notice_overdue": ("Payment overdue", "Pagamento em atraso"),
    "notice_overdue_text": (
        "Settle it in the Fi.V Connect panel, before the instance is suspended.",
        "Regularize no painel Fi.V Connect antes que a instância seja suspensa.",
    ),
    "check_now": ("Check now", "Verificar agora"),
    "since": ("since", "desde"),
    "live": ("Live", "Ao vivo"),
    "not_live": ("Not live", "Sem atualização"),
    "updated": ("The page was updated.", "A página foi atualizada."),
    "error": ("Error", "Erro"),
    "back": ("Back to the fleet", "Voltar à frota"),
    "made_at": ("Made", "Gerado em"),
    "by": ("by", "por"),
    "api_lead": (
        "The app's endpoints for Fi.V Connect. Every one is a thin call into the engine of fivrec.",
        "Os endpoints do app para o Fi.V Connect. Cada um é uma chamada direta ao motor do fivrec.",
    ),
    "parameters": ("Parameters", "Parâmetros"),
    "body": ("Body", "Corpo"),
    "answers": ("Answers", "Respostas"),
    "public": ("public", "público"),
    "schemas": ("Schemas", "Esquemas"),
    "not_found": ("There is nothing here.", "Não há nada aqui."),
    "cross_site": (
        "The form came from elsewhere, or is too old. Open the page again.",
        "O formulário veio de outro lugar ou é antigo. Abra a página novamente.",
    ),
}


def choose_language(accept: str) -> str:
    """The first of our languages by the weights of Accept-Language (RFC 9110, 12.5.4); English where none is."""
    wanted: list[tuple[float, int, str]] = []
    for number, part in enumerate(accept.split(",")[:20]):
        tag, _, parameter = part.strip().partition(";")
        weight = _weight(parameter)
        base = tag.strip().lower().partition("-")[0]
        if weight > 0 and base in LANGUAGES:
            wanted.append((-weight, number, base))
    return min(wanted)[2] if wanted else LANGUAGES[0]


def load_translations(language: str) -> Mapping[str, str]:
    place = LANGUAGES.index(language)
    return {name: both[place] for name, both in _WORDS.items()}


def _weight(parameter: str) -> float:
    name, _, value = parameter.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
