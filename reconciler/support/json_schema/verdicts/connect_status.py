"""Made by docs/compile_schemas.py from schemas/connect/status.schema.json; to change it, change that."""

from typing import Any

from reconciler.support.json_schema.verdicts import Unfit, is_number, is_text, matches

NoneType = type(None)


def document(data: Any) -> None:
    if not isinstance(data, dict):
        raise Unfit
    data_is_dict = isinstance(data, dict)
    if data_is_dict:
        data__missing_keys = set(['instanceId', 'status', 'billingStatus', 'enabledFeatures']) - data.keys()
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
        if 'status' in data_keys:
            data_keys.remove('status')
            data__status = data['status']
            if not is_text(data__status):
                raise Unfit
            if isinstance(data__status, str):
                data__status_len = len(data__status)
                if data__status_len < 1:
                    raise Unfit
        if 'billingStatus' in data_keys:
            data_keys.remove('billingStatus')
            data__billingStatus = data['billingStatus']
            if not is_text(data__billingStatus):
                raise Unfit
            if isinstance(data__billingStatus, str):
                data__billingStatus_len = len(data__billingStatus)
                if data__billingStatus_len < 1:
                    raise Unfit
        if 'enabledFeatures' in data_keys:
            data_keys.remove('enabledFeatures')
            data__enabledFeatures = data['enabledFeatures']
            if not isinstance(data__enabledFeatures, dict):
                raise Unfit
            data__enabledFeatures_is_dict = isinstance(data__enabledFeatures, dict)
            if data__enabledFeatures_is_dict:
                data__enabledFeatures_keys = set(data__enabledFeatures.keys())
                for data__enabledFeatures_key in data__enabledFeatures_keys:
                    if data__enabledFeatures_key not in []:
                        data__enabledFeatures_value = data__enabledFeatures.get(data__enabledFeatures_key)
                        if not isinstance(data__enabledFeatures_value, bool):
                            raise Unfit
                data__enabledFeatures_len = len(data__enabledFeatures)
                if data__enabledFeatures_len != 0:
                    data__enabledFeatures_property_names = True
                    for data__enabledFeatures_key in data__enabledFeatures:
                        try:
                            if isinstance(data__enabledFeatures_key, str):
                                if not matches('^[^\\u0000]+$', data__enabledFeatures_key):
                                    raise Unfit
                        except Unfit:
                            data__enabledFeatures_property_names = False
                    if not data__enabledFeatures_property_names:
                        raise Unfit
