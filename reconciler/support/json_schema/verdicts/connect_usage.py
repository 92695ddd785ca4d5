"""Made by docs/compile_schemas.py from schemas/connect/usage.schema.json; to change it, change that."""

from typing import Any

from reconciler.support.json_schema.verdicts import Unfit, is_number, is_text, matches

NoneType = type(None)


def document(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['instanceId', 'totalUsers', 'totalConversations', 'totalClients', 'totalQueues', 'activeConversations', 'environment', 'lastActivity', 'features']) - data.keys()
        if data__missing_keys:
            raise Unfit
        data_keys = set(data.keys())
        if 'instanceId' in data_keys:
            data_keys.remove('instanceId')
            data__instanceId = data['instanceId']
            if not is_text(data__instanceId):
                raise Unfit
            if isinstance(data__instanceId, str):
                data__instanceId_len = len(data__instanceId)
                if data__instanceId_len < 1:
                    raise Unfit
        if 'totalUsers' in data_keys:
            data_keys.remove('totalUsers')
            data__totalUsers = data['totalUsers']
            count(data__totalUsers)
        if 'totalConversations' in data_keys:
            data_keys.remove('totalConversations')
            data__totalConversations = data['totalConversations']
            count(data__totalConversations)
        if 'totalClients' in data_keys:
            data_keys.remove('totalClients')
            data__totalClients = data['totalClients']
            count(data__totalClients)
        if 'totalQueues' in data_keys:
            data_keys.remove('totalQueues')
            data__totalQueues = data['totalQueues']
            count(data__totalQueues)
        if 'activeConversations' in data_keys:
            data_keys.remove('activeConversations')
            data__activeConversations = data['activeConversations']
            count(data__activeConversations)
        if 'environment' in data_keys:
            data_keys.remove('environment')
            data__environment = data['environment']
            if not (isinstance(data__environment, str) and data__environment == 'production' or (isinstance(data__environment, str) and data__environment == 'development')):
                raise Unfit
        if 'lastActivity' in data_keys:
            data_keys.remove('lastActivity')
            data__lastActivity = data['lastActivity']
            if not (is_text(data__lastActivity) or isinstance(data__lastActivity, NoneType)):
                raise Unfit
        if 'features' in data_keys:
            data_keys.remove('features')
            data__features = data['features']
            if not isinstance(data__features, dict):
                raise Unfit
            data__features_is_dict = isinstance(data__features, dict)
            if data__features_is_dict:
                data__features_keys = set(data__features.keys())
                for data__features_key in data__features_keys:
                    if data__features_key not in []:
                        data__features_value = data__features.get(data__features_key)
                        if not isinstance(data__features_value, bool):
                            raise Unfit

def count(data: Any) -> None:
    if not isinstance(data, int) and (not (isinstance(data, float) and data.is_integer())) or isinstance(data, bool):
        raise Unfit
    if isinstance(data, (int, float)) and (not isinstance(data, bool)):
        if data < 0:
            raise Unfit
