"""Made by docs/compile_schemas.py from schemas/plan.v1.schema.json; to change it, change that."""

from typing import Any

from reconciler.support.json_schema.verdicts import Unfit, is_number, is_text, matches

NoneType = type(None)


def document(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['version', 'run_id', 'created_at', 'fivrec', 'git_commit', 'instances']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'version' in data_keys:
            data_keys.remove('version')
            data__version = data['version']
            if not (isinstance(data__version, (int, float)) and (not isinstance(data__version, bool)) and (data__version == 1)):
                raise Unfit
        if 'run_id' in data_keys:
            data_keys.remove('run_id')
            data__runid = data['run_id']
            if not is_text(data__runid):
                raise Unfit
            if isinstance(data__runid, str):
                data__runid_len = len(data__runid)
                if data__runid_len < 1:
                    raise Unfit
        if 'created_at' in data_keys:
            data_keys.remove('created_at')
            data__createdat = data['created_at']
            if not is_text(data__createdat):
                raise Unfit
            if isinstance(data__createdat, str):
                if not matches('^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,6})?Z$', data__createdat):
                    raise Unfit
        if 'fivrec' in data_keys:
            data_keys.remove('fivrec')
            data__fivrec = data['fivrec']
            if not is_text(data__fivrec):
                raise Unfit
            if isinstance(data__fivrec, str):
                data__fivrec_len = len(data__fivrec)
                if data__fivrec_len < 1:
                    raise Unfit
        if 'git_commit' in data_keys:
            data_keys.remove('git_commit')
            data__gitcommit = data['git_commit']
            if not (is_text(data__gitcommit) or isinstance(data__gitcommit, NoneType)):
                raise Unfit
        if 'instances' in data_keys:
            data_keys.remove('instances')
            data__instances = data['instances']
            if not isinstance(data__instances, list):
                raise Unfit
            data__instances_is_list = isinstance(data__instances, list)
            if data__instances_is_list:
                data__instances_len = len(data__instances)
                for data__instances_x, data__instances_item in enumerate(data__instances):
                    instance(data__instances_item)
        if data_keys:
            raise Unfit

def instance(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['instance', 'environment', 'manifest_digest', 'digest', 'changes']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'instance' in data_keys:
            data_keys.remove('instance')
            data__instance = data['instance']
            if not is_text(data__instance):
                raise Unfit
            if isinstance(data__instance, str):
                data__instance_len = len(data__instance)
                if data__instance_len < 1:
                    raise Unfit
        if 'environment' in data_keys:
            data_keys.remove('environment')
            data__environment = data['environment']
            if not (isinstance(data__environment, str) and data__environment == 'production' or (isinstance(data__environment, str) and data__environment == 'development')):
                raise Unfit
        if 'manifest_digest' in data_keys:
            data_keys.remove('manifest_digest')
            data__manifestdigest = data['manifest_digest']
            if not is_text(data__manifestdigest):
                raise Unfit
            if isinstance(data__manifestdigest, str):
                if not matches('^[0-9a-f]{64}$', data__manifestdigest):
                    raise Unfit
        if 'database_digest' in data_keys:
            data_keys.remove('database_digest')
            data__databasedigest = data['database_digest']
            if not is_text(data__databasedigest):
                raise Unfit
            if isinstance(data__databasedigest, str):
                if not matches('^[0-9a-f]{16}$', data__databasedigest):
                    raise Unfit
        if 'connect_digest' in data_keys:
            data_keys.remove('connect_digest')
            data__connectdigest = data['connect_digest']
            if not is_text(data__connectdigest):
                raise Unfit
            if isinstance(data__connectdigest, str):
                if not matches('^[0-9a-f]{16}$', data__connectdigest):
                    raise Unfit
        if 'digest' in data_keys:
            data_keys.remove('digest')
            data__digest = data['digest']
            if not is_text(data__digest):
                raise Unfit
            if isinstance(data__digest, str):
                if not matches('^[0-9a-f]{16}$', data__digest):
                    raise Unfit
        if 'changes' in data_keys:
            data_keys.remove('changes')
            data__changes = data['changes']
            if not isinstance(data__changes, list):
                raise Unfit
            data__changes_is_list = isinstance(data__changes, list)
            if data__changes_is_list:
                data__changes_len = len(data__changes)
                for data__changes_x, data__changes_item in enumerate(data__changes):
                    change(data__changes_item)
        if data_keys:
            raise Unfit

def change(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['kind', 'name', 'action', 'source', 'cause', 'fields']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'kind' in data_keys:
            data_keys.remove('kind')
            data__kind = data['kind']
            if not is_text(data__kind):
                raise Unfit
            if isinstance(data__kind, str):
                data__kind_len = len(data__kind)
                if data__kind_len < 1:
                    raise Unfit
        if 'name' in data_keys:
            data_keys.remove('name')
            data__name = data['name']
            if not is_text(data__name):
                raise Unfit
        if 'action' in data_keys:
            data_keys.remove('action')
            data__action = data['action']
            if not (isinstance(data__action, str) and data__action == 'create' or (isinstance(data__action, str) and data__action == 'update') or (isinstance(data__action, str) and data__action == 'deactivate') or (isinstance(data__action, str) and data__action == 'remove')):
                raise Unfit
        if 'source' in data_keys:
            data_keys.remove('source')
            data__source = data['source']
            if not (isinstance(data__source, str) and data__source == 'manifest' or (isinstance(data__source, str) and data__source == 'connect')):
                raise Unfit
        if 'cause' in data_keys:
            data_keys.remove('cause')
            data__cause = data['cause']
            if not (isinstance(data__cause, str) and data__cause == 'new' or (isinstance(data__cause, str) and data__cause == 'intent') or (isinstance(data__cause, str) and data__cause == 'drift')):
                raise Unfit
        if 'fields' in data_keys:
            data_keys.remove('fields')
            data__fields = data['fields']
            if not isinstance(data__fields, list):
                raise Unfit
            data__fields_is_list = isinstance(data__fields, list)
            if data__fields_is_list:
                data__fields_len = len(data__fields)
                for data__fields_x, data__fields_item in enumerate(data__fields):
                    data__fields_item_one_of_count1 = 0
                    if data__fields_item_one_of_count1 < 2:
                        try:
                            plain_field(data__fields_item)
                            data__fields_item_one_of_count1 += 1
                        except Unfit:
                            pass
                    if data__fields_item_one_of_count1 < 2:
                        try:
                            sensitive_field(data__fields_item)
                            data__fields_item_one_of_count1 += 1
                        except Unfit:
                            pass
                    if data__fields_item_one_of_count1 != 1:
                        raise Unfit
        if data_keys:
            raise Unfit

def sensitive_field(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['field', 'sensitive']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'field' in data_keys:
            data_keys.remove('field')
            data__field = data['field']
            field_name(data__field)
        if 'sensitive' in data_keys:
            data_keys.remove('sensitive')
            data__sensitive = data['sensitive']
            if not (isinstance(data__sensitive, bool) and data__sensitive is True):
                raise Unfit
        if data_keys:
            raise Unfit

def field_name(data: Any) -> None:
    if not is_text(data):
        raise Unfit
    if isinstance(data, str):
        data_len = len(data)
        if data_len < 1:
            raise Unfit

def plain_field(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['field', 'before', 'after']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'field' in data_keys:
            data_keys.remove('field')
            data__field = data['field']
            field_name(data__field)
        if 'before' in data_keys:
            data_keys.remove('before')
            data__before = data['before']
        if 'after' in data_keys:
            data_keys.remove('after')
            data__after = data['after']
        if data_keys:
            raise Unfit
